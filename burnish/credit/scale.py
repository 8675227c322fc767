"""Scales: what advantages are divided by. Second half of credit.

Dividing by a standard deviation makes steps of like size, and is a bias: groups in which nearly all responses are right
(or wrong) have a small deviation and count for more (Liu et al. 2025, arXiv 2503.20783).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from burnish.credit.settings import Scale

EPSILON = 1e-4
"""Added to a standard deviation, as TRL does: where all rewards are equal, advantages are 0 and not 0 / 0."""


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
        [n] for each group; a group or batch with fewer than two judged responses has a deviation of 0.
    """
    if scale == "group":
        return [a / (_deviation(r) + EPSILON) for a, r in zip(advantages, rewards, strict=True)]
    if scale == "none" or not advantages:
        return list(advantages)
    sizes = [len(group) for group in advantages]
    together, everything = torch.cat(list(advantages)), torch.cat(list(rewards))
    if scale == "batch":
        return list((together / (_deviation(everything) + EPSILON)).split(sizes))
    return list(((together - together.nanmean()) / (_deviation(together) + EPSILON)).split(sizes))


def _deviation(values: Tensor) -> Tensor:
    judged = values[~values.isnan()]
    return judged.std() if len(judged) > 1 else values.new_zeros(())
