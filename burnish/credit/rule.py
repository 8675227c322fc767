"""Contract of credit rules, which turn graded groups into training items: `credit` and `pairing`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from burnish.credit.settings import Combination
from burnish.types import Group


class CreditRule(Protocol):
    """Credit rule: graded groups → training items, one for each prompt."""

    @property
    def needs_reference(self) -> bool:
        """Whether responses must have `reference_logprobs`."""

    @property
    def group_relative(self) -> bool:
        """Whether responses to one prompt are compared, so that equal rewards give no gradient."""

    @property
    def reward_combination(self) -> Combination:
        """Combination of several rewards into one."""

    def assign(self, groups: Sequence[Group], rewards: Sequence[Tensor]) -> list[tuple[Group, ...]]:
        """The training item of each prompt, in the order of the prompts; an empty one where nothing can be learned.

        A group in an item has the graded responses in their order, if it has advantages.

        Args:
            groups: one for each prompt.
            rewards: [n] for each group; nan: not graded.
        """


@runtime_checkable
class AdaptiveRule(Protocol):
    """Credit rule that changes from batch to batch, and reports what it measured."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """Metrics of the newest batch."""

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint, which JSON can hold."""

    def load_state_dict(self, values: Mapping[str, Any]) -> None:
        """Restores the result of `state_dict`."""
