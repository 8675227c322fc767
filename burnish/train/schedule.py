"""Learning-rate schedules: pure functions of the step, so that resuming needs no state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

ScheduleKind = Literal["constant", "linear", "cosine", "wsd", "polynomial", "inverse_sqrt", "cosine_restarts"]

SCHEDULE_OPTIONS: Mapping[ScheduleKind, frozenset[str]] = MappingProxyType(
    {
        "constant": frozenset(),
        "linear": frozenset({"min_lr_ratio"}),
        "cosine": frozenset({"min_lr_ratio"}),
        "wsd": frozenset({"min_lr_ratio", "decay_ratio"}),
        "polynomial": frozenset({"min_lr_ratio", "power"}),
        "inverse_sqrt": frozenset(),
        "cosine_restarts": frozenset({"min_lr_ratio", "cycles"}),
    }
)
"""Kind of schedule → its options in a recipe, without the warmup."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A linear warmup from 0 to 1, then a shape, over a number of optimizer steps known beforehand.

    Example: ``Schedule("wsd", total=100, warmup_steps=10, decay_steps=20)`` rises for 10 steps, stays at 1 for 70 and
    falls for 20.
    """

    kind: ScheduleKind
    """constant; linear, cosine or a polynomial to `min_lr_ratio`; wsd: warmup, stable, linear decay (arXiv
    2404.06395, section 4); cosine_restarts: several cosines one after the other, each from 1 (arXiv 1608.03983,
    equation 5); inverse_sqrt: as 1 / sqrt(step) (arXiv 1706.03762, equation 3)."""
    total: int
    """Optimiser steps of the stage."""
    warmup_steps: int = 0
    """Steps of the warmup; step k of it has the factor (k + 1) / warmup_steps."""
    decay_steps: int = 0
    """Steps of the decay; used by wsd alone."""
    min_lr_ratio: float = 0.0
    """Factor that the decay approaches: it is reached one step after the last."""
    power: float = 2.0
    """Of a polynomial; 1 is linear."""
    cycles: int = 2
    """Cosines of cosine_restarts, of equal length."""

    def factor(self, step: int) -> float:
        """The factor of the learning rate in the optimizer step `step`, counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.kind == "constant":
            return 1.0
        if self.kind == "inverse_sqrt":
            return math.sqrt(max(1, self.warmup_steps) / (step + 1))
        return self.min_lr_ratio + (1 - self.min_lr_ratio) * self._fall(step)

    def _fall(self, step: int) -> float:
        """From 1 to 0."""
        length = self.decay_steps if self.kind == "wsd" else self.total - self.warmup_steps
        progress = max(0.0, (step - (self.total - length)) / max(1, length))
        match self.kind:
            case "cosine":
                return 0.5 * (1 + math.cos(math.pi * progress))
            case "cosine_restarts":
                return 0.5 * (1 + math.cos(math.pi * (self.cycles * progress % 1)))
            case "polynomial":
                return (1 - progress) ** self.power
        return 1 - progress
