"""Invariants on the user's own model and data, before a run."""

from burnish.checks.cost import Cost, estimate
from burnish.checks.subject import Subject
from burnish.checks.suite import OF_MODEL, OF_PROMPTS, OF_ROWS, Check
from burnish.checks.verdict import Verdict

__all__ = ["OF_MODEL", "OF_PROMPTS", "OF_ROWS", "Check", "Cost", "Subject", "Verdict", "estimate"]
