r"""The loss of a reward model on scores: the mean square of what it is off.

    L = 1/R Σ_i (r_i − s_i)²

s is `Response.reward`, the score that the data gives (HelpSteer's reward models learn so: Wang et al. 2024, arXiv
2406.08673, section 3). Every response counts by itself, also where several share a prompt. Limit: its minimum for equal
features is the mean score. Denominator: sequences, that is responses.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch

from burnish.losses.base import Defaults
from burnish.losses.reward.values import value_of_each
from burnish.types import Component, Denominator, LossOutput, Microbatch, Scope, Score, TokenScores


@dataclass(frozen=True, slots=True)
class Regression(Defaults):
    """See the module."""

    @property
    def needs(self) -> Collection[Score]:
        return [Score.VALUE]

    @property
    def scope(self) -> Scope:
        return Scope.SEQUENCE

    def __call__(self, scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        values = value_of_each(scores, microbatch)
        given = microbatch.sequence_reward.to(values.dtype)
        torch._assert_async(~given.isnan().any(), "every response has a score")
        off = values - given
        watched = {"absolute_error": Component(off.detach().abs().sum(), Denominator.SEQUENCES)}
        return LossOutput({"regression": Component((off**2).sum(), Denominator.SEQUENCES)}, watched)
