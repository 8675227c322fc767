"""A loss times a constant coefficient: a term that is added to another loss, such as PPO-ptx."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from burnish.losses.base import Loss, has_signal
from burnish.types import Denominator, Group, LossOutput, LossTerm, Microbatch, Scope, Score, TokenScores


@dataclass(frozen=True, slots=True)
class Scaled:
    """c · L. Its terms and gradients are those of the loss times c, its metrics those of the loss."""

    loss: Loss
    coef: float
    """c, > 0."""

    @property
    def needs(self) -> Collection[Score]:
        return self.loss.needs

    @property
    def scope(self) -> Scope:
        return self.loss.scope

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

    def has_signal(self, groups: Sequence[Group]) -> bool:
        """See `losses.base.KnowsSignal`."""
        return has_signal(self.loss, groups)
