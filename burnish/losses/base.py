"""The contract of every loss. Stands after scoring; imports only types and torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, Self, runtime_checkable

from torch import Tensor

from burnish.types import Denominator, Group, LossOutput, Microbatch, Response, Scope, Score, TokenScores


class Loss(Protocol):
    """A pure function (scores, microbatch) → sums.

    A user's own loss is any object with these five members; see ``docs/design.md``.
    """

    @property
    def needs(self) -> Collection[Score]:
        """The scores that `__call__` reads; scoring computes no others."""

    @property
    def scope(self) -> Scope:
        """What `__call__` must see at once. The step keeps it: where a microbatch has less, it scores all of the scope
        first, evaluates the loss on that, and goes backwards with the gradient per token that came out."""

    def __call__(self, scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        """Sums over the microbatch, each with the name of its denominator. Never a mean."""

    def score_gradients(
        self, microbatch: Microbatch, denominators: Mapping[Denominator, float]
    ) -> Mapping[Score, Tensor] | None:
        """[S] per needed score: the gradient of the step's loss with respect to it, if it does not depend on the
        scores (the loss is linear in them); otherwise None. Only a short-cut: the backward asserts it."""

    def with_measurements(self, scores: TokenScores, microbatch: Microbatch) -> Loss:
        """This loss with what it takes from the step's measured groups (`Group.scored_only`), all of them in one
        microbatch, scored without gradient. Called once before a step that has any."""


@runtime_checkable
class AdaptiveLoss(Protocol):
    """A loss that changes from step to step by what its steps report. What it remembers is a part of the checkpoint."""

    def observe(self, sums: Mapping[str, Tensor]) -> Mapping[str, float]:
        """Takes what a step reported, already divided; returns figures of its own for the step's line."""

    def memory(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What the rest of the stage depends on: named tensors (not copies), and values that JSON can hold."""

    def remember(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Puts back what `memory` gave."""


@runtime_checkable
class KnowsSignal(Protocol):
    """A loss that can say beforehand that a step teaches nothing. Of others, every step does."""

    def has_signal(self, groups: Sequence[Group]) -> bool:
        """False: the gradient of a step on these groups is exactly 0 whatever the weights are. The step then leaves
        weights and optimizer as they are: its decay and its momentum would move them."""


def has_signal(loss: Loss, groups: Sequence[Group]) -> bool:
    """Whether a step on these groups may have a gradient, as far as the loss can say beforehand."""
    return loss.has_signal(groups) if isinstance(loss, KnowsSignal) else True


class LossDefaults:
    """To inherit from: a loss that may contrast the responses of a group, is not linear in its scores, weighs every
    token by its weight, and takes nothing from measured groups."""

    __slots__ = ()

    @property
    def scope(self) -> Scope:
        return Scope.GROUP

    def score_gradients(
        self, microbatch: Microbatch, denominators: Mapping[Denominator, float]
    ) -> Mapping[Score, Tensor] | None:
        return None

    def with_measurements(self, scores: TokenScores, microbatch: Microbatch) -> Self:
        return self

    def has_signal(self, groups: Sequence[Group]) -> bool:
        """See `KnowsSignal`: some token has a weight."""
        return any(group.prompt_weights is not None or _weighs(group.responses) for group in groups)


def _weighs(responses: Sequence[Response]) -> bool:
    return any(each.weights is None or bool(each.weights.any()) for each in responses)
