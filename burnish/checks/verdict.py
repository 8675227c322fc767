"""What a check says: passed or not, the number that it measured, and what to do."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from burnish.model.probe import TOLERANCE

REPORT = "this is a fault of Burnish or of how it computes this architecture, not of the recipe: please report it"
"""The remedy where a user has none."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer of one check. Example: ``Verdict(True, "2 of 2 rows can be used")``."""

    passed: bool | None
    """None: there is nothing to check here, and `measured` says why."""
    measured: str
    """What was measured, with its limit."""
    remedy: str = ""
    """What to do; only for a failure, and then always."""
    shown: str = ""
    """Text to look at, of several lines; "": none."""

    def __post_init__(self) -> None:
        assert (self.passed is False) == bool(self.remedy), "a failure, and nothing else, says what to do"


def judged(passed: bool, measured: str, remedy: str, shown: str = "") -> Verdict:
    """A verdict whose remedy counts only if it failed."""
    return Verdict(passed, measured, "" if passed else remedy, shown)


def tolerance(dtype: torch.dtype, fault: float = math.inf) -> float:
    """By how much two computations of the same thing in this type may differ: nats, or a share of a gradient's norm.

    The table is the probe's. float64 has 1e-5, far above its own rounding, since the norms of transformers' models
    round to float32 in all types. Where it is known how much the fault that is looked for would change in this model,
    at most half of that is allowed: an untrained model hardly looks at what it sees. But never less than a quarter of
    the table's, which is what rounding alone may take.
    """
    return min(TOLERANCE[dtype], max(fault / 2, TOLERANCE[dtype] / 4))


def type_name(dtype: torch.dtype) -> str:
    """Example: ``type_name(torch.float64) == "float64"``."""
    return str(dtype).removeprefix("torch.")
