"""Invariants on the user's own model and data, before a run."""
