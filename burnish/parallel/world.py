"""World: the processes that train together, as one of them sees them. This one is a run of one process.

What a step, an evaluation or a run folder needs of other processes goes through this class and nothing else, so several
processes need another class and no other change. All processes hold all weights and see all groups of a step; they
share its microbatches. Here sums and gathers are identities: no tensor operation, no copy, no waiting.

Every method but `shard` and `at` is collective: all processes call it, in the same order, or none does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")
Summed = TypeVar("Summed", Tensor, dict[str, Tensor])


class World:
    """The processes of a run. Example of two: rank 0 has microbatches 0 and 1 of three, rank 1 has the last one."""

    rank: int = 0
    """Number of this process, from 0."""
    size: int = 1
    """Number of processes."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks; one of the processes does."""
        return self.rank == 0

    def shard(self, items: Sequence[T]) -> Sequence[T]:
        """The items of this process, maybe none. Those of rank 0, 1, … one after another are all items in their
        order, so results that are gathered are in this order as well."""
        return items

    def gather(self, item: T) -> list[T]:
        """The object of every process, in the order of ranks; tensors in it are on this process's device."""
        return [item]

    def sum(self, value: Summed) -> Summed:
        """Sum over the processes, with the same bits on all of them: of a tensor, or of the tensors of each name. A
        name that a process does not have counts as 0 there."""
        return value

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces gradients by their sums over the processes, with the same bits on all of them. A process without a
        gradient of a parameter counts as 0; one that no process has stays None."""

    def grad_norm(self, gradients: Sequence[Tensor]) -> Tensor:
        """Norm of all summed gradients together, a scalar on their device."""
        return torch.nn.utils.get_total_norm(gradients)

    def at(self, phase: str) -> None:
        """Notes what this process does now, for the error of the others if it is lost. Not collective."""

    def wait(self) -> None:
        """Returns once every process is here; each then sees the files that others wrote before."""


ONE_PROCESS = World()
"""The world of a run of one process."""
