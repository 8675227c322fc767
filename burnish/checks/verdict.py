"""Result of a check: passed or not, the measured value, and what to do."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from burnish.model.probe import TOLERANCE

REPORT = "this is a fault of Burnish or of how it computes this architecture, not of the recipe: please report it"
"""Remedy for faults that a user cannot correct."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Result of one check. Example: ``CheckResult(True, "2 of 2 rows can be used")``."""

    passed: bool | None
    """None: not applicable, and `measured` says why."""
    measured: str
    """The measured value with its limit."""
    remedy: str = ""
    """What to do; set if and only if the check failed."""
    shown: str = ""
    """Text of several lines to inspect; "": none."""

    def __post_init__(self) -> None:
        assert (self.passed is False) == bool(self.remedy), "a remedy is given if and only if the check failed"


def checked(passed: bool, measured: str, remedy: str, shown: str = "") -> CheckResult:
    """Result of a check; the remedy is dropped if it passed."""
    return CheckResult(passed, measured, "" if passed else remedy, shown)


def tolerance(dtype: torch.dtype, fault: float = math.inf) -> float:
    """Largest allowed difference of two computations in this type: nats, or a share of a gradient's norm.

    The table is that of the probe. float64 has 1e-5, far above its own rounding, since the norms of transformers'
    models round to float32 in all types. If the effect of the fault on this model is known, at most half of it is
    allowed, since an untrained model hardly depends on its context; but at least a quarter of the table's value, which
    rounding alone may reach.
    """
    return min(TOLERANCE[dtype], max(fault / 2, TOLERANCE[dtype] / 4))


def type_name(dtype: torch.dtype) -> str:
    """Example: ``type_name(torch.float64) == "float64"``."""
    return str(dtype).removeprefix("torch.")
