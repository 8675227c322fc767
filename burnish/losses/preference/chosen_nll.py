r"""The likelihood of every group's best response: the SFT term of a preference loss.

    per token      −Σ_g Σ_t w_t log π(y_t) / Σ_g Σ_t w_t    tokens of the step count the same: cross-entropy on the best
    per response   −1/G Σ_g (1/|y_g| Σ_t w_t log π(y_t))    responses count the same: ORPO (arXiv 2403.07691, equation
                                                            3), iterative RPO (arXiv 2404.19733)

over the trained tokens of first responses; prompts are not in it. Linear in its scores. Nothing is detached.
Denominators: the weight of best responses, and groups. Where all have the same length and no weights, both are the
same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from burnish.losses.base import LossDefaults
from burnish.losses.per_response import per_length, sum_per_response
from burnish.types import Denominator, LossOutput, LossTerm, Microbatch, Scope, Score, TokenScores


@dataclass(frozen=True, slots=True)
class ChosenNll(LossDefaults):
    """See the module."""

    per: Literal["token", "response"] = "token"

    @property
    def needs(self) -> Collection[Score]:
        return [Score.LOGPROB]

    @property
    def scope(self) -> Scope:
        return Scope.SEQUENCE

    @property
    def _denominator(self) -> Denominator:
        return Denominator.CHOSEN_WEIGHT if self.per == "token" else Denominator.GROUPS

    def __call__(self, scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        logprob = scores.of(Score.LOGPROB)
        total = -(self._shares(microbatch, logprob.dtype) * logprob).sum()
        return LossOutput({"likelihood": LossTerm(total, self._denominator)})

    def score_gradients(
        self, microbatch: Microbatch, denominators: Mapping[Denominator, float]
    ) -> Mapping[Score, Tensor] | None:
        count = denominators[self._denominator] or 1.0
        return {Score.LOGPROB: -self._shares(microbatch, torch.float64) / count}

    def _shares(self, microbatch: Microbatch, dtype: torch.dtype) -> Tensor:
        """[S] how much each token's log-probability counts in the sum."""
        first = (microbatch.sequence_index == 0)[microbatch.sequence] & (microbatch.response_positions >= 0)
        weights = torch.where(first, microbatch.weights.to(dtype), 0.0)
        if self.per == "token":
            return weights
        each = per_length(torch.ones_like(sum_per_response(weights, microbatch)), weights, microbatch)
        return weights * each[microbatch.sequence]
