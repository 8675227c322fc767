"""Contract of contrasts: functions of the rewards of the better and the worse response of every pair.

Stands between the implicit rewards and `pairs.Pairs`. A contrast is a pure function; those of the whole step
(`Scope.STEP`) see all pairs of the step at once, in the step's order.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from burnish.types import Scope


class Contrast(Protocol):
    """Rewards of the better and the worse response, [G] and [G] → [G] costs. The loss is their mean over the step."""

    @property
    def scope(self) -> Scope:
        """GROUP: every cost depends on its own pair; STEP: on all pairs of the step."""

    def __call__(self, chosen: Tensor, rejected: Tensor) -> Tensor: ...


class OfOnePair:
    """To inherit from: every cost depends on its own pair."""

    __slots__ = ()

    @property
    def scope(self) -> Scope:
        return Scope.GROUP


class OfTheStep:
    """To inherit from: a cost depends on all pairs of the step."""

    __slots__ = ()

    @property
    def scope(self) -> Scope:
        return Scope.STEP
