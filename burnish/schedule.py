"""Learning-rate schedules: pure functions of the step, so that resuming needs no state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Shape = Literal["constant", "linear", "cosine", "wsd", "polynomial", "inverse_sqrt", "cosine_restarts"]

SHAPE_OPTIONS: Mapping[Shape, frozenset[str]] = MappingProxyType(
    {
        "constant": frozenset(),
        "linear": frozenset({"final"}),
        "cosine": frozenset({"final"}),
        "wsd": frozenset({"final", "decay"}),
        "polynomial": frozenset({"final", "power"}),
        "inverse_sqrt": frozenset(),
        "cosine_restarts": frozenset({"final", "cycles"}),
    }
)
"""What each shape takes beside the warm-up."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A linear warm-up from 0 to 1, then a shape, over a number of optimiser steps known beforehand.

    Example: ``Schedule("wsd", total=100, warmup=10, decay=20)`` rises for 10 steps, stays at 1 for 70, falls for 20.
    """

    shape: Shape
    """constant; linear, cosine or a polynomial to `final`; wsd: warm-up, stable, linear decay (arXiv 2404.06395,
    section 4); cosine_restarts: several cosines one after the other, each from 1 (arXiv 1608.03983, equation 5);
    inverse_sqrt: as 1 / sqrt(step) (arXiv 1706.03762, equation 3)."""
    total: int
    """Optimiser steps of the stage."""
    warmup: int = 0
    """Steps of the warm-up; step k of it has the factor (k + 1) / warmup."""
    decay: int = 0
    """Steps of the decay; used by wsd alone."""
    final: float = 0.0
    """Factor that the decay approaches: it is reached one step after the last."""
    power: float = 2.0
    """Of a polynomial; 1 is linear."""
    cycles: int = 2
    """Cosines of cosine_restarts, of equal length."""

    def factor(self, step: int) -> float:
        """The factor of the learning rate in the optimiser step `step`, counted from 0."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.shape == "constant":
            return 1.0
        if self.shape == "inverse_sqrt":
            return math.sqrt(max(1, self.warmup) / (step + 1))
        return self.final + (1 - self.final) * self._fall(step)

    def _fall(self, step: int) -> float:
        """From 1 to 0."""
        length = self.decay if self.shape == "wsd" else self.total - self.warmup
        progress = max(0.0, (step - (self.total - length)) / max(1, length))
        match self.shape:
            case "cosine":
                return 0.5 * (1 + math.cos(math.pi * progress))
            case "cosine_restarts":
                return 0.5 * (1 + math.cos(math.pi * (self.cycles * progress % 1)))
            case "polynomial":
                return (1 - progress) ** self.power
        return 1 - progress
