"""Learning-rate schedules: pure functions of the step, so that resuming needs no state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Shape = Literal["constant", "linear", "cosine", "wsd"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """A linear warm-up from 0 to 1, then a shape, over a number of optimiser steps known beforehand.

    Example: ``Schedule("wsd", total=100, warmup=10, decay=20)`` rises for 10 steps, stays at 1 for 70, falls for 20.
    """

    shape: Shape
    """constant; linear or cosine to `final`; wsd: warm-up, stable, linear decay (arXiv 2404.06395, section 4)."""
    total: int
    """Optimiser steps of the stage."""
    warmup: int = 0
    """Steps of the warm-up; step k of it has the factor (k + 1) / warmup."""
    decay: int = 0
    """Steps of the decay; used by wsd alone."""
    final: float = 0.0
    """Factor that the decay approaches: it is reached one step after the last."""

    def factor(self, step: int) -> float:
        """The factor of the learning rate in the optimiser step `step`, counted from 0."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.shape == "constant":
            return 1.0
        length = self.decay if self.shape == "wsd" else self.total - self.warmup
        progress = max(0.0, (step - (self.total - length)) / max(1, length))
        if self.shape == "cosine":
            return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))
        return self.final + (1 - self.final) * (1 - progress)
