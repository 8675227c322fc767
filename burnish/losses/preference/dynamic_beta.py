r"""β-DPO's contrast: DPO whose β follows the mean margin of the step (Wu et al. 2024, arXiv 2407.08639).

    −log σ(β_step/β₀ · M),    M = r_chosen − r_rejected with β₀,    β_step = β₀ (1 + α (mean M − M₀))

The mean goes over all pairs of the step and is detached; β_step is held at β₀/1000 or above. α = 0 is DPO. Departures
from the paper: M₀ is a constant here (there a running mean, which would be a state of the loss), and no pair is
filtered out (there a random choice by how near M is to M₀). Denominator: pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from burnish.losses.preference.contrast import OfTheStep
from burnish.losses.preference.logistic import Logistic


@dataclass(frozen=True, slots=True)
class DynamicBeta(OfTheStep):
    """See the module."""

    alpha: float = 0.6
    """α >= 0, per unit of reward."""
    m0: float = 0.0
    """M₀, in the unit of rewards."""

    def __call__(self, chosen: Tensor, rejected: Tensor) -> Tensor:
        mean = (chosen - rejected).mean().detach()
        factor = (1 + self.alpha * (mean - self.m0)).clamp(min=1e-3)
        return Logistic()(factor * chosen, factor * rejected)
