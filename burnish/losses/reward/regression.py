r"""Loss of a reward model on scores: the mean squared error.

    L = 1/R Σ_i 1/K Σ_k (r_ik − s_ik)²

With one score s is `Response.reward`, with K named ones `Response.scores`, each of which has an output of its own
(as in HelpSteer's reward models: Wang et al. 2024, arXiv 2406.08673, section 3). Every response counts on its own,
even if several share a prompt. Limits: its minimum for equal features are the mean scores; with K equal scores and
outputs it is the loss of one. Denominator: sequences, that is responses.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.losses.reward.values import OfValues, values_of_each
from burnish.types import Denominator, LossOutput, LossTerm, Microbatch, TokenScores


@dataclass(frozen=True, slots=True)
class Regression(OfValues):
    """See the module."""

    def __call__(self, scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        values = values_of_each(scores, microbatch)
        given = _given(microbatch).to(values.dtype)
        assert given.shape == values.shape, "the head has an output for each score of the data"
        torch._assert_async(~given.isnan().any(), "every response has a score")
        errors = values - given
        absolute, squared = (error.mean(dim=1).sum() for error in (errors.detach().abs(), errors**2))
        metrics = {"absolute_error": LossTerm(absolute, Denominator.SEQUENCES)}
        return LossOutput({"regression": LossTerm(squared, Denominator.SEQUENCES)}, metrics)


def _given(microbatch: Microbatch) -> Tensor:
    """[R, K]"""
    several = microbatch.sequence_scores
    return several if several.shape[1] else microbatch.sequence_reward[:, None]
