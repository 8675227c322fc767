r"""DiscoPOP's contrast, found by a language model's search (Lu et al. 2024, arXiv 2406.08414, equation 5).

    (1 − w) (−log σ(x)) + w e^(−x),    x = r_chosen − r_rejected,  w = σ(x/τ)

Logistic for wrong pairs, exponential for right ones; neither convex nor monotone. Limits: w → 0 (x ≪ −τ) is DPO, w → 1
is the exponential loss. For x ≪ 0 the factor of e^(−x) is as small as e^(x/τ), so their product is taken as one
exponential. Nothing is detached. Denominator: pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from burnish.losses.preference.contrast import OfOnePair


@dataclass(frozen=True, slots=True)
class DiscoPop(OfOnePair):
    """See the module."""

    temperature: float = 0.05
    """τ in (0, 1), in the unit of rewards."""

    def __call__(self, chosen: Tensor, rejected: Tensor) -> Tensor:
        x = chosen - rejected
        scaled = x / self.temperature
        return (-scaled).sigmoid() * -logsigmoid(x) + torch.exp(logsigmoid(scaled) - x)
