"""What is minimised: pure functions of scores and microbatches that return sums and name their denominators."""

from burnish.losses.base import Adapts, Defaults, KnowsSignal, Loss, has_signal
from burnish.losses.cross_entropy import CrossEntropy

__all__ = ["Adapts", "CrossEntropy", "Defaults", "KnowsSignal", "Loss", "has_signal"]
