"""Baselines: numbers that are subtracted from rewards. First half of credit assignment.

A baseline that does not depend on the response itself keeps the expected gradient and reduces its variance. Rewards of
a group are [n] float64; an ungraded response has nan, counts in no baseline, and stays nan. Equal rewards differ from
their mean by exactly 0: the difference is computed exactly and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from burnish.credit.settings import Baseline
from burnish.rounding import from_mean


def compared(values: Tensor) -> Tensor:
    """[n] float64, each number minus the mean of those that are not nan; see `rounding.from_mean`. nan stays."""
    graded = ~values.isnan()
    differences = torch.full(values.shape, torch.nan, dtype=torch.float64)
    differences[graded] = torch.tensor(from_mean(values[graded].tolist()), dtype=torch.float64)
    return differences


def group_mean(rewards: Tensor) -> Tensor:
    """R_i − mean(R), GRPO (Shao et al. 2024, arXiv 2402.03300, section 4.1.2, without its division).

    The mean has R_i in it, so the expected gradient is (n−1)/n of the true one: `leave_one_out` times (n−1)/n.

    Args:
        rewards: [n].

    Returns:
        [n]; 0 for the only graded response.
    """
    return compared(rewards)


def leave_one_out(rewards: Tensor) -> Tensor:
    """R_i − mean of the others, RLOO (Kool et al. 2019; Ahmadian et al. 2024, arXiv 2402.14740). Unbiased.

    Args:
        rewards: [n].

    Returns:
        [n]; 0 for the only graded response, which has no others.
    """
    count = int((~rewards.isnan()).sum())
    return compared(rewards) * (count / max(1, count - 1))  # R_i − mean of the others = (R_i − mean of all) n / (n − 1)


def no_baseline(rewards: Tensor) -> Tensor:
    """R_i itself, REINFORCE (Williams 1992). Unbiased, of large variance; REINFORCE++ whitens it over the batch."""
    return rewards


BASELINES: Mapping[Baseline, Callable[[Tensor], Tensor]] = {
    "group": group_mean,
    "leave_one_out": leave_one_out,
    "none": no_baseline,
}
"""Name → baseline."""
