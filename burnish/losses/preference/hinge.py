r"""The hinge contrast  max(0, 1 − (r_chosen − r_rejected)).

SLiC-HF's calibration loss (Zhao et al. 2023, arXiv 2305.10425) on rewards against a reference, as in RSO
(Liu et al. 2023, arXiv 2309.06657, "hinge-norm"). Pairs whose margin has reached 1 have no gradient. Where no pair
has, it is linear, with the slope that DPO has for very wrong pairs. Nothing is detached. Denominator: pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import relu

from burnish.losses.preference.contrast import OfOnePair


@dataclass(frozen=True, slots=True)
class Hinge(OfOnePair):
    """See the module."""

    def __call__(self, chosen: Tensor, rejected: Tensor) -> Tensor:
        return relu(1 - (chosen - rejected))
