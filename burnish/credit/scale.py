"""Scales: divisors of advantages. Second half of credit assignment.

Dividing by a standard deviation makes steps of similar size, and is a bias: groups in which nearly all responses are
right (or wrong) have a small deviation and a larger weight (Liu et al. 2025, arXiv 2503.20783).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from burnish.credit.baseline import compared
from burnish.credit.settings import Scale
from burnish.rounding import deviation

EPSILON = 1e-4
"""Added to a standard deviation, as in TRL. Where rewards do not vary, advantages are 0."""


def scaled(advantages: Sequence[Tensor], rewards: Sequence[Tensor], scale: Scale) -> list[Tensor]:
    """Divides the advantages of a batch.

    Args:
        advantages: [n] for each group, rewards minus their baseline; nan: not graded.
        rewards: [n] for each group.
        scale: group: by the standard deviation (n − 1 in its denominator) of the group's rewards (GRPO, arXiv
            2402.03300, section 4.1.2). batch: by that of all rewards of the batch. whiten: the advantages of the batch
            become of mean 0 and deviation 1 (REINFORCE++, Hu 2025, arXiv 2501.03262; couples all groups). none: as
            they are (Dr. GRPO).

    Returns:
        [n] float64 for each group. A group or batch with fewer than two graded responses, or with equal rewards, has a
        deviation of 0, and then advantages are 0 (also R itself, without a baseline).
    """
    if scale == "group":
        return [_divided(a, r) for a, r in zip(advantages, rewards, strict=True)]
    if scale == "none" or not advantages:
        return list(advantages)
    sizes = [len(group) for group in advantages]
    all_advantages, all_rewards = torch.cat(list(advantages)), torch.cat(list(rewards))
    if scale == "batch":
        return list(_divided(all_advantages, all_rewards).split(sizes))
    return list(_divided(compared(all_advantages), all_advantages).split(sizes))


def _divided(advantages: Tensor, varying: Tensor) -> Tensor:
    """Advantages divided by the standard deviation of the values that are not nan; 0 if it is 0; nan stays."""
    spread = deviation(varying[~varying.isnan()].tolist())
    return advantages.double() / (spread + EPSILON) if spread else torch.where(advantages.isnan(), advantages, 0.0)
