r"""Contrasts that pull rewards to a target: IPO and SPPO. With log-ratios s = r/β:

    IPO    (s_chosen − s_rejected − 1/(2β))²                     Azar et al. 2023, arXiv 2310.12036, equation 17
    SPPO   (s_chosen − 1/(2β))² + (s_rejected + 1/(2β))²         Wu et al. 2024, arXiv 2405.00675, equation 4.7

IPO's β is the paper's τ. SPPO's 1/β is the paper's η, and the estimated win rate is 1 for the chosen and 0 for the
rejected response ("hard"). Both are at their minimum with finite rewards. If s_chosen + s_rejected = 0, SPPO is ½ (Δ −
1/β)², half of IPO's with target 1/β. Nothing is detached. Denominator: pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from burnish.losses.preference.contrast import OfOnePair


@dataclass(frozen=True, slots=True)
class Ipo(OfOnePair):
    """See the module."""

    beta: float
    """β of the rewards that it is given."""

    def __call__(self, chosen: Tensor, rejected: Tensor) -> Tensor:
        return ((chosen - rejected - 0.5) / self.beta) ** 2


@dataclass(frozen=True, slots=True)
class Sppo(OfOnePair):
    """See the module."""

    beta: float
    """β of the rewards that it is given."""

    def __call__(self, chosen: Tensor, rejected: Tensor) -> Tensor:
        return ((chosen - 0.5) / self.beta) ** 2 + ((rejected + 0.5) / self.beta) ** 2
