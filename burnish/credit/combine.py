"""Combination of several rewards of a response into one, before the baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from burnish.credit.baseline import compared
from burnish.credit.scale import scaled
from burnish.credit.settings import Combination
from burnish.rounding import summed


def combined(parts: Sequence[Tensor], weights: Tensor, combination: Combination) -> list[Tensor]:
    """Combines the rewards of each response into one.

    Args:
        parts: [n, K] for each group: K rewards of each response; nan: not graded by it.
        weights: [K].
        combination: sum: Σ_k w_k R_k, in which the reward of largest variance dominates. normalized_sum: each reward is
            first normalized to mean 0 and standard deviation 1 within its group, so that none dominates (GDPO, Liu et
            al. 2026, arXiv 2601.05242, which then whitens over the batch: scale whiten).

    Returns:
        [n] float64 for each group. A reward that did not grade a response is left out of its sum; nan if none graded
        it; exactly 0 if the sum is rounding error alone.
    """
    return [_weighted(group if combination == "sum" else _centered(group, combination), weights) for group in parts]


def contributions(parts: Tensor, weights: Tensor, combination: Combination) -> Tensor:
    """[n, K] contribution of each reward to a response's comparison with its group: w_k (R_k − mean R_k), with
    normalized_sum divided by the standard deviation of R_k. If every reward graded the response, contributions add up
    to the combined reward minus its group's mean.

    Args:
        parts: [n, K] of one group, as in `combined`.
        weights: [K].
        combination: as in `combined`.
    """
    return _centered(parts, combination) * weights.double()


def _weighted(values: Tensor, weights: Tensor) -> Tensor:
    rows = (values.double() * weights.double()).tolist()
    sums = (summed(term for term in row if not math.isnan(term)) for row in rows)
    totals = torch.tensor(list(sums), dtype=torch.float64)
    return torch.where(values.isnan().all(dim=1), torch.nan, totals)


def _centered(group: Tensor, combination: Combination) -> Tensor:
    """[n, K] each reward minus its mean, with normalized_sum divided by its standard deviation."""
    rewards = list(group.unbind(dim=1))
    differences = [compared(reward) for reward in rewards]
    if combination == "normalized_sum":
        differences = scaled(differences, rewards, "group")
    return torch.stack(differences, dim=1)
