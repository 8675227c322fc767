"""Settings of the audit of one code task."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from burnish.config.settings import Settings
from burnish.sandbox.base import Limits


class TaskAuditSettings(Settings):
    """How thoroughly a code task is audited."""

    limits: Limits = Field(default_factory=Limits)
    """Limits of time, memory and output of a program."""
    repeats: Annotated[int, Field(ge=2)] = 3
    """Number of runs of the solution, each with other random numbers."""
    mutants: Annotated[int, Field(ge=0)] = 24
    """Number of mutants of the solution."""
    inputs: Annotated[int, Field(ge=1)] = 48
    """Number of inputs that tell a mutant from the solution."""
    slow_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the seconds of the limits that the solution may use up."""
    attacks: bool = True
    """Whether programs are tried that attack the tests."""
