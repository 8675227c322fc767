"""Several rewards of a response → one. Before `baseline`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from burnish.credit.scale import scaled

Combination = Literal["sum", "normalized_sum"]


def combined(parts: Sequence[Tensor], weights: Tensor, combination: Combination) -> list[Tensor]:
    """One reward for each response.

    Args:
        parts: [n, K] for each group: K rewards of each response; nan: not judged by it.
        weights: [K].
        combination: sum: Σ_k w_k R_k, and what varies most in it decides. normalized_sum: each reward first becomes of
            mean 0 and deviation 1 within its group, so that none drowns another (GDPO, Liu et al. 2026, arXiv
            2601.05242, which then whitens over the batch: scale whiten).

    Returns:
        [n] for each group. A reward that did not judge a response is left out of its sum; nan where none judged it.
    """
    return [_weighted(group if combination == "sum" else _normalized(group), weights) for group in parts]


def contributions(parts: Tensor, weights: Tensor, combination: Combination) -> Tensor:
    """[n, K] what each reward adds to a response's comparison with its group: w_k (R_k − mean R_k), under
    normalized_sum divided by the deviation of R_k. Where every reward judged, they add up to the combined reward minus
    its group's mean.

    Args:
        parts: [n, K] of one group, as in `combined`.
        weights: [K].
        combination: as in `combined`.
    """
    compared = _normalized(parts) if combination == "normalized_sum" else parts - parts.nanmean(dim=0)
    return compared * weights


def _weighted(values: Tensor, weights: Tensor) -> Tensor:
    judged = ~values.isnan()
    total = torch.where(judged, values * weights, 0.0).sum(dim=1)
    return torch.where(judged.any(dim=1), total, torch.nan)


def _normalized(group: Tensor) -> Tensor:
    rewards = list(group.unbind(dim=1))
    compared = scaled([_compared(each) for each in rewards], rewards, "group")
    return torch.stack(compared, dim=1)


def _compared(rewards: Tensor) -> Tensor:
    """[n] minus their mean; exactly 0 where all are the same: the rounding of a mean is no signal."""
    judged = rewards[~rewards.isnan()]
    same = len(judged) == 0 or bool(judged.max() == judged.min())
    return rewards * 0.0 if same else rewards - rewards.nanmean()
