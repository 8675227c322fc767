r"""Mean divergence from the teacher: the loss of distillation by distributions.

    L = Σ_t w_t D(s_t, t_t) / Σ_t w_t

over the trained tokens t of the step, where scoring computes D of the student's next-token distribution s_t and the
teacher's t_t (`model.divergence`). On responses that the student sampled it is on-policy distillation (GKD, Agarwal et
al. 2023, arXiv 2306.13649); the sampling is not differentiated, as there (section 3). On given responses it is
knowledge distillation (Hinton et al. 2015, arXiv 1503.02531). Linear in its score, so both gradients of the head are
made in the forward.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.losses.base import LossDefaults
from burnish.types import Denominator, LossOutput, LossTerm, Microbatch, Scope, Score, TokenScores


@dataclass(frozen=True, slots=True)
class TeacherDivergence(LossDefaults):
    """Mean divergence from the teacher, nats per token: L = Σ w_t D(s_t, t_t) / Σ w_t over the tokens of responses; the
    module has the formula. Trained tokens of prompts, which no teacher has scored, have no part in it."""

    @property
    def needs(self) -> Collection[Score]:
        return [Score.DIVERGENCE]

    @property
    def scope(self) -> Scope:
        return Scope.SEQUENCE

    def __call__(self, scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        divergence = scores.of(Score.DIVERGENCE)
        total = (_weights(microbatch).to(divergence.dtype) * divergence).sum()
        return LossOutput({"divergence": LossTerm(total, Denominator.WEIGHT)})

    def score_gradients(
        self, microbatch: Microbatch, denominators: Mapping[Denominator, float]
    ) -> Mapping[Score, Tensor] | None:
        count = denominators[Denominator.WEIGHT]
        return {Score.DIVERGENCE: _weights(microbatch).to(torch.float64) / (count or 1.0)}


def _weights(microbatch: Microbatch) -> Tensor:
    """[S], 0 at tokens of prompts."""
    return torch.where(microbatch.response_positions >= 0, microbatch.weights, 0.0)
