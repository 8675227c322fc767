"""A loss times a constant coefficient: a term that is added to another loss, such as PPO-ptx."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from burnish.losses.base import Loss, WrappedLoss
from burnish.types import Denominator, LossOutput, LossTerm, Microbatch, Score, TokenScores


@dataclass(frozen=True, slots=True)
class Scaled(WrappedLoss):
    """c · L. Its terms and gradients are those of the loss times c, its metrics those of the loss."""

    loss: Loss
    coef: float
    """c, > 0."""

    def __call__(self, scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        output = self.loss(scores, microbatch)
        terms = {name: LossTerm(self.coef * term.total, term.denominator) for name, term in output.terms.items()}
        return replace(output, terms=terms)

    def score_gradients(
        self, microbatch: Microbatch, denominators: Mapping[Denominator, float]
    ) -> Mapping[Score, Tensor] | None:
        gradients = self.loss.score_gradients(microbatch, denominators)
        return None if gradients is None else {kind: self.coef * gradient for kind, gradient in gradients.items()}

    def with_measurements(self, scores: TokenScores, microbatch: Microbatch) -> Scaled:
        return replace(self, loss=self.loss.with_measurements(scores, microbatch))
