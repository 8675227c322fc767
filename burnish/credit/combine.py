"""Several rewards of a response → one. Before `baseline`."""

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
    """One reward for each response.

    Args:
        parts: [n, K] for each group: K rewards of each response; nan: not judged by it.
        weights: [K].
        combination: sum: Σ_k w_k R_k, and what varies most in it decides. normalized_sum: each reward first becomes of
            mean 0 and deviation 1 within its group, so that none drowns another (GDPO, Liu et al. 2026, arXiv
            2601.05242, which then whitens over the batch: scale whiten).

    Returns:
        [n] float64 for each group. A reward that did not judge a response is left out of its sum; nan where none judged
        it; exactly 0 where nothing but rounding is left of the terms.
    """
    return [_weighted(group if combination == "sum" else _centered(group, combination), weights) for group in parts]


def contributions(parts: Tensor, weights: Tensor, combination: Combination) -> Tensor:
    """[n, K] what each reward adds to a response's comparison with its group: w_k (R_k − mean R_k), under
    normalized_sum divided by the deviation of R_k. Where every reward judged, they add up to the combined reward minus
    its group's mean.

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
    """[n, K] each reward minus its mean, and under normalized_sum divided by its deviation."""
    rewards = list(group.unbind(dim=1))
    differences = [compared(each) for each in rewards]
    if combination == "normalized_sum":
        differences = scaled(differences, rewards, "group")
    return torch.stack(differences, dim=1)
