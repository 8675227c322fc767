"""Gather of hidden states, with repetitions and a deterministic backward.

Used by `scoring` and `value_head`: the last position of a prompt predicts the first token of every response.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Gather(torch.autograd.Function):
    """hidden[positions] with repeated positions. The backward adds repetitions in rounds without duplicates, so the
    order of additions is fixed on every device."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, positions: Tensor, rounds: tuple[Tensor, ...]) -> Tensor:
        ctx.save_for_backward(positions, *rounds)
        ctx.shape = hidden.shape
        return hidden.index_select(0, positions)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        positions, *rounds = ctx.saved_tensors
        total = gradient.new_zeros(ctx.shape)
        for indices in rounds:
            total.index_add_(0, positions[indices], gradient[indices])
        return total, None, None
