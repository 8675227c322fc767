"""Baselines: what a response's reward is compared with. First half of credit.

A baseline that does not depend on the response itself leaves the expected gradient as it is and takes variance away.
Rewards of a group are [n] float64; a response that nobody could judge is nan, counts in no baseline, and stays nan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from burnish.credit.settings import Baseline


def group_mean(rewards: Tensor) -> Tensor:
    """R_i − mean(R), GRPO (Shao et al. 2024, arXiv 2402.03300, section 4.1.2, without its division).

    The mean has R_i in it, so the expected gradient is (n−1)/n of the true one: `leave_one_out` times (n−1)/n.

    Args:
        rewards: [n].

    Returns:
        [n]; 0 for a response that is judged alone.
    """
    return rewards - rewards.nanmean()


def leave_one_out(rewards: Tensor) -> Tensor:
    """R_i − mean of the others, RLOO (Kool et al. 2019; Ahmadian et al. 2024, arXiv 2402.14740). Unbiased.

    Args:
        rewards: [n].

    Returns:
        [n]; 0 for a response that is judged alone, which nothing can be compared with.
    """
    judged = (~rewards.isnan()).sum()
    others = (rewards.nansum() - rewards) / (judged - 1).clamp(min=1)
    return torch.where(judged > 1, rewards - others, rewards * 0.0)


def no_baseline(rewards: Tensor) -> Tensor:
    """R_i itself, REINFORCE (Williams 1992). Unbiased, of large variance; REINFORCE++ whitens it over the batch."""
    return rewards


BASELINES: Mapping[Baseline, Callable[[Tensor], Tensor]] = {
    "group": group_mean,
    "leave_one_out": leave_one_out,
    "none": no_baseline,
}
"""Name → rule."""
