"""The loss of pairs: an implicit reward for every response, a contrast for every pair, their mean over the step.

    L = 1/G Σ_g v_g · contrast(r(chosen_g), r(rejected_g)),    v = 1, or WPO's weights w(chosen_g) · w(rejected_g)

The whole DPO family is this with one of `implicit` and one of the contrasts; `registry` names them. Denominator:
groups.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.losses.base import LossDefaults
from burnish.losses.per_response import mean_logprob, response_of_each
from burnish.losses.preference.contrast import Contrast
from burnish.losses.preference.implicit import ImplicitReward
from burnish.losses.preference.metrics import pair_metrics
from burnish.types import Denominator, LossOutput, LossTerm, Microbatch, Scope, Score, TokenScores


@dataclass(frozen=True, slots=True)
class Pairs(LossDefaults):
    """See the module."""

    reward: ImplicitReward
    contrast: Contrast
    wpo: bool = False
    """Whether pairs have WPO's weights (`policy_weight`, detached). Not for a contrast over the whole step."""
    at: tuple[int, int] = (0, 1)
    """Indices of the chosen and the rejected response in a group of max(at) + 1 responses."""

    def __post_init__(self) -> None:
        assert not (self.wpo and self.contrast.scope is Scope.STEP), "costs over a whole step do not belong to pairs"

    @property
    def needs(self) -> Collection[Score]:
        return [Score.LOGPROB, Score.LOG_COLLISION] if self.wpo else [Score.LOGPROB]

    @property
    def scope(self) -> Scope:
        return self.contrast.scope

    def __call__(self, scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        logprob, size = scores.of(Score.LOGPROB), max(self.at) + 1
        rewards = self.reward(logprob, microbatch)
        chosen, rejected = (response_of_each(rewards, microbatch, index, size) for index in self.at)
        costs = self.contrast(chosen, rejected)
        if self.wpo:
            weights = policy_weight(scores, microbatch)
            for index in self.at:
                costs = costs * response_of_each(weights, microbatch, index, size)
        metrics = pair_metrics(rewards, logprob, microbatch, at=self.at, against_reference=self.reward.needs_reference)
        return LossOutput({"preference": LossTerm(costs.sum(), Denominator.GROUPS)}, metrics)


def policy_weight(scores: TokenScores, microbatch: Microbatch) -> Tensor:
    """WPO's weight, the probability of a response under the present policy: [R], at least 0, detached.

    Zhou et al. 2024, arXiv 2406.11827:

        w(y) = exp( 1/|y| Σ_t [ log π(y_t) − log Σ_v π(v)² ] )        equation 2 with the paper's weight alignment

    The second term is the log of the expected probability of a token sampled from the policy, so that w = 1 where the
    policy is certain, and about 1 for its own samples; it has no upper limit.
    """
    aligned = scores.of(Score.LOGPROB).detach() - scores.of(Score.LOG_COLLISION).detach()
    return torch.exp(mean_logprob(aligned, microbatch))
