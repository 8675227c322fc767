r"""EXO's contrast: the reverse KL from the policy's preference q to the label's p.

Ji et al. 2024, arXiv 2402.00856, equation 16:

    KL(q‖p) = q_c (log q_c − log(1−ε)) + q_r (log q_r − log ε),    q_c = σ(r_chosen − r_rejected), q_r = 1 − q_c

ε > 0 is the probability that the label is wrong (the KL to a certain label is infinite). cDPO is the forward KL of the
same two distributions, plus the entropy of p: both have their minimum at log((1−ε)/ε), with the same curvature ε(1−ε)
there. Nothing is detached. Denominator: pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from burnish.losses.preference.contrast import OfOnePair


@dataclass(frozen=True, slots=True)
class Exo(OfOnePair):
    """See the module."""

    label_smoothing: float
    """ε in (0, 1/2]."""

    def __call__(self, chosen: Tensor, rejected: Tensor) -> Tensor:
        x = chosen - rejected
        right, wrong = math.log1p(-self.label_smoothing), math.log(self.label_smoothing)
        return x.sigmoid() * (logsigmoid(x) - right) + (-x).sigmoid() * (logsigmoid(-x) - wrong)
