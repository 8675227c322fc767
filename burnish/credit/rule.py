"""What becomes of graded groups before they are learned from. The contract of `credit` and `pairing`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from burnish.credit.settings import Combination
from burnish.types import Group


class CreditRule(Protocol):
    """Graded groups → what is learned of each prompt."""

    @property
    def needs_reference(self) -> bool:
        """Whether responses must have `reference_logprobs` before."""

    @property
    def group_relative(self) -> bool:
        """Whether responses to one prompt are compared with each other, so that equal ones teach nothing."""

    @property
    def reward_combination(self) -> Combination:
        """How several rewards become what a response is worth."""

    def assign(self, groups: Sequence[Group], worth: Sequence[Tensor]) -> list[tuple[Group, ...]]:
        """What is learned, for each prompt that teaches anything, in their order.

        Args:
            groups: one for each prompt.
            worth: [n] for each group, what its responses are worth; nan: not judged.
        """
