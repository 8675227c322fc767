"""Per-token values → values of each response. Stands between scoring and every loss of a reward model.

With value targets at the ends of responses (`sources.value_targets`), the only scored token of a response is its last.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from torch import Tensor

from burnish.losses.base import LossDefaults
from burnish.losses.per_response import sum_per_response
from burnish.types import Microbatch, Scope, Score, TokenScores


@dataclass(frozen=True, slots=True)
class OfValues(LossDefaults):
    """Base class of losses of values in which each value counts on its own."""

    @property
    def needs(self) -> Collection[Score]:
        return [Score.VALUE]

    @property
    def scope(self) -> Scope:
        return Scope.SEQUENCE


def value_of_each(scores: TokenScores, microbatch: Microbatch) -> Tensor:
    """[R], the value of each response at its only scored token."""
    value = scores.of(Score.VALUE)
    assert value.dim() == 1, "these losses learn one number for each response"
    assert len(value) == microbatch.num_sequences, "a response has one value target"
    return sum_per_response(value, microbatch)


def values_of_each(scores: TokenScores, microbatch: Microbatch) -> Tensor:
    """[R, K], the values of each response at its only scored token."""
    values = scores.of(Score.VALUE)
    assert len(values) == microbatch.num_sequences, "a response has one value target"
    # One token of each response, in the order of responses: values are aligned with responses.
    return values[:, None] if values.dim() == 1 else values
