"""Contract of losses. Stands after scoring; imports only types and torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, Self, runtime_checkable

from torch import Tensor

from burnish.types import Denominator, Group, LossOutput, Microbatch, Response, Scope, Score, TokenScores


class Loss(Protocol):
    """A pure function (scores, microbatch) → sums.

    A user's loss is any object with these members; see ``docs/design.md``.
    """

    @property
    def needs(self) -> Collection[Score]:
        """Scores that `__call__` reads; scoring computes no others."""

    @property
    def scope(self) -> Scope:
        """Part of the step that `__call__` must see at once. Where a microbatch has less, the step scores all of the
        scope first, evaluates the loss on it, and uses the resulting gradient per token in the backward pass."""

    def __call__(self, scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        """Sums over the microbatch, each with the name of its denominator. Never a mean."""

    def score_gradients(
        self, microbatch: Microbatch, denominators: Mapping[Denominator, float]
    ) -> Mapping[Score, Tensor] | None:
        """[S] per needed score: the gradient of the step's loss with respect to it, if it does not depend on the
        scores (the loss is linear in them); otherwise None. Only a shortcut: the backward pass asserts it."""

    def with_measurements(self, scores: TokenScores, microbatch: Microbatch) -> Loss:
        """This loss with constants from the step's `Group.scored_only` groups, which are scored without gradient, all
        in one microbatch. Called once before a step that has such groups."""


@runtime_checkable
class AdaptiveLoss(Protocol):
    """A loss whose parameters change with the metrics of its steps. Its state is part of the checkpoint."""

    def observe(self, sums: Mapping[str, Tensor]) -> Mapping[str, float]:
        """Takes the metrics of a step, already divided; returns metrics of its own for the step."""

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """State for a checkpoint: named tensors (not copies), and values that JSON can hold."""

    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Restores the state that `memory` returned."""


@runtime_checkable
class KnowsSignal(Protocol):
    """A loss that knows before a step whether its gradient is 0. Other losses always have a signal."""

    def has_signal(self, groups: Sequence[Group]) -> bool:
        """False: the gradient of a step on these groups is exactly 0 for any weights. The step then leaves weights and
        optimizer unchanged; weight decay and momentum would change them."""


def has_signal(loss: Loss, groups: Sequence[Group]) -> bool:
    """Whether a step on these groups may have a gradient, as far as the loss knows beforehand."""
    return loss.has_signal(groups) if isinstance(loss, KnowsSignal) else True


class LossDefaults:
    """Base class with defaults: the scope is a group, the loss is not linear in its scores, tokens have their weights,
    and nothing is taken from groups that are only scored."""

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


class WrappedLoss(LossDefaults):
    """Base class of a loss around another one, `loss`, whose needs, scope and signal it has."""

    __slots__ = ()
    loss: Loss

    @property
    def needs(self) -> Collection[Score]:
        return self.loss.needs

    @property
    def scope(self) -> Scope:
        return self.loss.scope

    def has_signal(self, groups: Sequence[Group]) -> bool:
        return has_signal(self.loss, groups)


def _weighs(responses: Sequence[Response]) -> bool:
    return any(response.weights is None or bool(response.weights.any()) for response in responses)
