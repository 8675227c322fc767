"""What is minimised: pure functions of scores and microbatches that return sums and name their denominators."""

from burnish.losses.base import Defaults, Loss
from burnish.losses.cross_entropy import CrossEntropy

__all__ = ["CrossEntropy", "Defaults", "Loss"]
