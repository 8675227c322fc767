"""A weighted sum of losses, say DPO with a share of likelihood. Each keeps its own denominator.

Reported: every term already weighted, so that they add up to the loss, under the name of its part; what is metrics
once.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from burnish.losses.base import Loss, LossDefaults
from burnish.types import LossOutput, LossTerm, Microbatch, Scope, Score, TokenScores


@dataclass(frozen=True, slots=True)
class Weighted:
    """One part of a sum."""

    name: str
    loss: Loss
    weight: float


@dataclass(frozen=True, slots=True)
class WeightedSum(LossDefaults):
    """See the module. Parts have different names."""

    parts: tuple[Weighted, ...]

    def __post_init__(self) -> None:
        assert len({part.name for part in self.parts}) == len(self.parts), "parts of a sum have different names"

    @property
    def needs(self) -> Collection[Score]:
        return [kind for kind in Score if any(kind in part.loss.needs for part in self.parts)]

    @property
    def scope(self) -> Scope:
        """The widest of the parts'."""
        return max((part.loss.scope for part in self.parts), key=list(Scope).index)

    def with_measurements(self, scores: TokenScores, microbatch: Microbatch) -> WeightedSum:
        return WeightedSum(tuple(replace(p, loss=p.loss.with_measurements(scores, microbatch)) for p in self.parts))

    def __call__(self, scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        terms: dict[str, LossTerm] = {}
        metrics: dict[str, LossTerm] = {}
        for part in self.parts:
            output = part.loss(scores, microbatch)
            for name, term in output.terms.items():
                label = part.name if len(output.terms) == 1 else f"{part.name}_{name}"
                terms[label] = replace(term, total=part.weight * term.total)
            metrics |= {name: value for name, value in output.metrics.items() if name not in metrics}
        return LossOutput(terms, metrics)
