"""World: the processes that train together, as one of them sees them. This one is a run of one process.

What a step, an evaluation or a run folder needs of other processes goes through this class and nothing else, so several
processes need another class and no other change. All processes hold all weights and see all groups of a step; they
share its microbatches. Here sums and gathers are identities: no tensor operation, no copy, no waiting.

Every method but `shard` and `at` is collective: all processes call it, in the same order, or none does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from burnish.parallel.divisible import Divisible
from burnish.parallel.part import Part
from burnish.parallel.placement import PLACED, Placement

T = TypeVar("T")
Summed = TypeVar("Summed", Tensor, dict[str, Tensor])


class World:
    """The processes of a run. Example of two: rank 0 has microbatches 0 and 1 of three, rank 1 has the last one."""

    rank: int = 0
    """Number of this process, from 0."""
    size: int = 1
    """Number of processes."""
    shares: int = 1
    """Number of processes with different rows; those that compute the same rows together (tensor parallelism) are one
    share."""
    own_share: int = 0
    """Index of the share of this process."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks; one of the processes does."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """The items of this process, maybe none. Those of share 0, 1, … one after another are all items in their
        order, so results that are gathered are in this order as well."""
        return items

    def share_evenly(self, items: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
        """The items of this process as `share` gives them, and items of others that it computes too, without any use
        of the result. Processes that have the weights together compute equally many items, since each computation
        gathers the weights."""
        return self.share(items), ()

    def gather(self, item: T) -> list[T]:
        """The object of every process, in the order of ranks; tensors in it are on this process's device."""
        return [item]

    def gather_shares(self, item: T) -> list[T]:
        """The objects of processes with different shares, in the order of `share`; tensors in them are on this
        process's device."""
        return [item]

    def sum(self, value: Summed) -> Summed:
        """Sum over the shares, with the same bits on all of them: of a tensor, or of the tensors of each name. A
        name that a process does not have counts as 0 there."""
        return value

    def sum_gradients(
        self,
        weights: Sequence[nn.Parameter],
        parts: Sequence[Part] | None = None,
        there: Sequence[bool] | None = None,
    ) -> None:
        """Replaces gradients by their sums over the processes that have the same part of a weight, with the same bits
        on all of them. A process without a gradient of a weight counts as 0; one that no process has stays None.

        Args:
            weights: what the optimizer updates.
            parts: which part of the model's weight each is; None: all are whole.
            there: whether this process has computed a gradient of each; None: where there is one.
        """

    def grad_norm(self, weights: Sequence[nn.Parameter], parts: Sequence[Part] | None = None) -> Tensor:
        """Norm of all summed gradients of whole weights together, a scalar on their device; see `sum_gradients`."""
        return torch.nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])

    def place(self, divisible: Divisible) -> Placement:
        """Divides the weights of a model among the processes, in place; each has all of them before.

        Raises:
            ModelError: it cannot be divided.
        """
        return PLACED

    def with_same_rows(self, make: Callable[[], T]) -> T:
        """What the first of the processes with the same rows makes; the others get it from there."""
        return make()

    def at(self, phase: str) -> None:
        """Notes what this process does now, for the error of the others if it is lost. Not collective."""

    def wait(self) -> None:
        """Returns once every process is here; each then sees the files that others wrote before."""


ONE_PROCESS = World()
"""The world of a run of one process."""
