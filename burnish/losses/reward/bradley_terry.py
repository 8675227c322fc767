r"""The loss of a reward model on pairs: how probable the preference is, if rewards are strengths (Bradley–Terry 1952).

    L = 1/G Σ_g −log σ(r_c − r_r − m_g)  +  c/G Σ_g (r_c + r_r)²,      m_g = μ (s_c − s_r)

The first term is that of Christiano et al. 2017 (arXiv 1706.03741, equation 1) and Ouyang et al. 2022 (arXiv
2203.02155, equation 1), with the margin of Llama 2 (arXiv 2307.09288, equation 2): s are the scores of the data
(`Response.reward`), so a pair of which one answer is much better has to be further apart. The second one centres
rewards, which a difference leaves open (Eisenstein et al. 2023, arXiv 2312.09244, section 3.2).

Limits: μ = 0 and c = 0 is the contrast of DPO with values in the place of log-ratios, and Plackett–Luce of two. Nothing
is detached but m. Denominator: groups, that is pairs.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from torch import Tensor

from burnish.losses.base import LossDefaults
from burnish.losses.per_response import response_of_each
from burnish.losses.preference.logistic import Logistic
from burnish.losses.preference.metrics import reward_metrics
from burnish.losses.reward.settings import BradleyTerryOptions
from burnish.losses.reward.values import value_of_each
from burnish.types import Denominator, LossOutput, LossTerm, Microbatch, Score, TokenScores


@dataclass(frozen=True, slots=True)
class BradleyTerry(BradleyTerryOptions, LossDefaults):
    """See the module, and the options for the fields."""

    @property
    def needs(self) -> Collection[Score]:
        return [Score.VALUE]

    def __call__(self, scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        rewards = value_of_each(scores, microbatch)
        chosen, rejected = (response_of_each(rewards, microbatch, index, 2) for index in (0, 1))
        costs = Logistic()(chosen - self._margins(rewards, microbatch), rejected)
        terms = {"preference": LossTerm(costs.sum(), Denominator.GROUPS)}
        if self.center_coef:
            squares = self.center_coef * (chosen + rejected) ** 2
            terms["center"] = LossTerm(squares.sum(), Denominator.GROUPS)
        return LossOutput(terms, reward_metrics(rewards, microbatch))

    def _margins(self, rewards: Tensor, microbatch: Microbatch) -> Tensor | float:
        """[G] m"""
        if not self.margin:
            return 0.0
        given = microbatch.sequence_reward.to(rewards.dtype)
        better, worse = (response_of_each(given, microbatch, index, 2) for index in (0, 1))
        return self.margin * (better - worse)
