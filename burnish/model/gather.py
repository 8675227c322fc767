"""Taking rows of a tensor, some of them several times, with a backward that gives the same bits every time.

Under `scoring`: the last row of a prompt predicts the first token of every response.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Gather(torch.autograd.Function):
    """hidden[rows], where rows repeat. The backward adds repeats round by round: each round is free of duplicates, so
    the order of additions is fixed on every device."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, rows: Tensor, rounds: tuple[Tensor, ...]) -> Tensor:
        ctx.save_for_backward(rows, *rounds)
        ctx.shape = hidden.shape
        return hidden.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        rows, *rounds = ctx.saved_tensors
        total = gradient.new_zeros(ctx.shape)
        for indices in rounds:
            total.index_add_(0, rows[indices], gradient[indices])
        return total, None, None
