"""Scales: what advantages are divided by. Second half of credit.

Dividing by a standard deviation makes steps of like size, and is a bias: groups in which nearly all responses are right
(or wrong) have a small deviation and count for more (Liu et al. 2025, arXiv 2503.20783).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from burnish.credit.baseline import compared
from burnish.credit.settings import Scale
from burnish.rounding import deviation

EPSILON = 1e-4
"""Added to a standard deviation, as TRL does. Where rewards do not vary, nothing is divided: advantages are 0."""


def scaled(advantages: Sequence[Tensor], rewards: Sequence[Tensor], scale: Scale) -> list[Tensor]:
    """Divides the advantages of a batch.

    Args:
        advantages: [n] for each group, rewards minus their baseline; nan where nothing was judged.
        rewards: [n] for each group.
        scale: group: by the standard deviation (n − 1 in its denominator) of the group's rewards (GRPO, arXiv
            2402.03300, section 4.1.2). batch: by that of all rewards of the batch. whiten: the advantages of the batch
            become of mean 0 and deviation 1 (REINFORCE++, Hu 2025, arXiv 2501.03262; couples all groups). none: as
            they are (Dr. GRPO).

    Returns:
        [n] float64 for each group. A group or batch with fewer than two judged responses has a deviation of 0, and one
        whose rewards are equal too: by a deviation of 0 advantages become 0 (also R itself, without a baseline).
    """
    if scale == "group":
        return [_divided(a, r) for a, r in zip(advantages, rewards, strict=True)]
    if scale == "none" or not advantages:
        return list(advantages)
    sizes = [len(group) for group in advantages]
    together, everything = torch.cat(list(advantages)), torch.cat(list(rewards))
    if scale == "batch":
        return list(_divided(together, everything).split(sizes))
    return list(_divided(compared(together), together).split(sizes))


def _divided(advantages: Tensor, varying: Tensor) -> Tensor:
    """Advantages divided by the deviation of what is not nan; 0 where that does not vary, and nan stays."""
    spread = deviation(varying[~varying.isnan()].tolist())
    return advantages.double() / (spread + EPSILON) if spread else torch.where(advantages.isnan(), advantages, 0.0)
