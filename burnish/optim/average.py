"""The exponential moving average of the weights (Polyak and Juditsky 1992; arXiv 1703.01780)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Average:
    """Exponential moving average of every trained weight, in float32 (float64 for float64 weights)."""

    def __init__(self, weights: Sequence[Tensor], decay: float) -> None:
        """
        Args:
            weights: the weights before the first update.
            decay: share of the average that an update keeps, in [0, 1).
        """
        assert 0 <= decay < 1, f"a decay is a share below 1, not {decay}"
        self.decay = decay
        self.values = [w.detach().to(torch.promote_types(w.dtype, torch.float32), copy=True) for w in weights]

    @torch.no_grad()
    def update(self, weights: Sequence[Tensor], updates: int) -> None:
        """Updates the average after an optimizer step.

        Args:
            weights: the weights, in the order of the constructor.
            updates: number of optimizer steps including this one, from 1. The decay is at most updates / (updates + 9),
                so that the first weights of a short run do not dominate the average.
        """
        share = 1 - min(self.decay, updates / (updates + 9))
        for value, weight in zip(self.values, weights, strict=True):
            value.lerp_(weight.to(value.dtype), share)
