r"""Contrasts that look at each reward by itself, not only at their difference. With c = r_chosen, x = r_rejected:

    NCA        −log σ(c) − ½ log σ(−c) − ½ log σ(−x)      Chen et al. 2024, arXiv 2402.05369, with K = 2
    BCO        −log σ(c − δ) − log σ(δ − x)               Jung et al. 2024, arXiv 2404.04656
    APO-zero   (1 − σ(c)) + σ(x)                          D'Oosterlinck et al. 2024, arXiv 2408.06266, equation 7
    APO-down   σ(c) + (1 − σ(c − x))                      the same, equation 8

NCA and APO-zero raise the chosen response's likelihood itself, where DPO may lower both; APO-down lowers both, the
rejected more. BCO's shift δ is ½ (mean c + mean x) over the step, detached; the paper keeps a running mean instead,
and TRL none: without the shift (δ = 0) every pair stands for itself. Limits: APO-zero is 1 where c = x; APO-down is ½
+ σ(c) there; NCA is BCO without shift, plus ½ (log σ(−x) − log σ(−c)), which vanishes where c = x. Nothing else is
detached. Denominator: pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from burnish.losses.preference.contrast import OfOnePair, OfTheStep


@dataclass(frozen=True, slots=True)
class Nca(OfOnePair):
    """See the module."""

    def __call__(self, chosen: Tensor, rejected: Tensor) -> Tensor:
        return -logsigmoid(chosen) - 0.5 * logsigmoid(-chosen) - 0.5 * logsigmoid(-rejected)


@dataclass(frozen=True, slots=True)
class Bco(OfOnePair):
    """See the module: without shift."""

    def __call__(self, chosen: Tensor, rejected: Tensor) -> Tensor:
        return -logsigmoid(chosen) - logsigmoid(-rejected)


@dataclass(frozen=True, slots=True)
class ShiftedBco(OfTheStep):
    """See the module: δ is the mean reward of the step."""

    def __call__(self, chosen: Tensor, rejected: Tensor) -> Tensor:
        shift = 0.5 * (chosen.mean() + rejected.mean()).detach()
        return Bco()(chosen - shift, rejected - shift)


@dataclass(frozen=True, slots=True)
class ApoZero(OfOnePair):
    """See the module."""

    def __call__(self, chosen: Tensor, rejected: Tensor) -> Tensor:
        return (-chosen).sigmoid() + rejected.sigmoid()


@dataclass(frozen=True, slots=True)
class ApoDown(OfOnePair):
    """See the module."""

    def __call__(self, chosen: Tensor, rejected: Tensor) -> Tensor:
        return chosen.sigmoid() + (rejected - chosen).sigmoid()
