"""The contract of every loss. Stands after scoring; imports only types and torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from torch import Tensor

from burnish.types import Denominator, LossOutput, Microbatch, Score, TokenScores


class Loss(Protocol):
    """A pure function (scores, microbatch) → sums.

    A user's own loss is any object with these three members; see ``docs/design.md``.
    """

    @property
    def needs(self) -> Collection[Score]:
        """The scores that `__call__` reads; scoring computes no others."""

    def __call__(self, scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        """Sums over the microbatch, each with the name of its denominator. Never a mean."""

    def coefficients(
        self, microbatch: Microbatch, denominators: Mapping[Denominator, float]
    ) -> Mapping[Score, Tensor] | None:
        """[S] per needed score: the gradient of the step's loss with respect to it, if it does not depend on the
        scores (the loss is linear in them); otherwise None. Only a short-cut: the backward asserts it."""
