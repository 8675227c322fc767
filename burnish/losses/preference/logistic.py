r"""The logistic contrast: DPO's, with its treatments of wrong labels and its target margin.

    ℓ(x) = −a log σ(x) − b log σ(−x),    x = r_chosen − r_rejected − γ

=====================  ==================================  ===========================================================
loss                   a, b                                source
=====================  ==================================  ===========================================================
DPO                    1, 0                                Rafailov et al. 2023, arXiv 2305.18290, equation 7
conservative (cDPO)    1 − ε, ε                            Mitchell 2023, "A note on DPO with noisy preferences"
robust                 (1 − ε)/(1 − 2ε), −ε/(1 − 2ε)       Chowdhury et al. 2024, arXiv 2403.00409
SimPO                  1, 0 with γ > 0                     Meng et al. 2024, arXiv 2405.14734, equation 6
=====================  ==================================  ===========================================================

ε is the share of pairs whose labels are wrong. cDPO is the cross-entropy to a label that is right with probability 1 −
ε, and so has its minimum at x = log((1 − ε)/ε); the robust loss has the mean of DPO's over clean labels, and no
minimum. ε = 0 is DPO in both. Nothing is detached. Denominator: pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from burnish.losses.preference.contrast import OfOnePair


@dataclass(frozen=True, slots=True)
class Logistic(OfOnePair):
    """See the module. The default is DPO's."""

    right: float = 1.0
    """a"""
    wrong: float = 0.0
    """b"""
    margin: float = 0.0
    """γ >= 0, in the unit of rewards."""

    def __call__(self, chosen: Tensor, rejected: Tensor) -> Tensor:
        x = chosen - rejected - self.margin
        return -self.right * logsigmoid(x) - self.wrong * logsigmoid(-x)


def conservative(label_smoothing: float, margin: float = 0.0) -> Logistic:
    """cDPO's contrast; label_smoothing is ε in [0, 1/2]."""
    return Logistic(1 - label_smoothing, label_smoothing, margin)


def robust(label_smoothing: float) -> Logistic:
    """The contrast of robust DPO; label_smoothing is ε in [0, 1/2)."""
    scale = 1 - 2 * label_smoothing
    return Logistic((1 - label_smoothing) / scale, -label_smoothing / scale)
