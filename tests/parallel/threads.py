"""A world of threads: what several processes do, in one, each thread with a model of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import reduce
from threading import Barrier
from typing import Any, TypeVar

from torch import Tensor, nn

from burnish.parallel.world import Summed, World

T = TypeVar("T")


@dataclass(eq=False)
class ThreadWorld(World):
    """One thread of several; threads that wait for one another share a barrier and a table."""

    rank: int
    size: int
    barrier: Barrier
    table: list[Any] = field(repr=False)

    def shard(self, items: Sequence[T]) -> Sequence[T]:
        start, end = (len(items) * rank // self.size for rank in (self.rank, self.rank + 1))
        return items[start:end]

    def gather(self, item: T) -> list[T]:
        self.table[self.rank] = item
        self.barrier.wait()
        items = list(self.table)
        self.barrier.wait()
        return items

    def sum(self, value: Summed) -> Summed:
        values = self.gather(value)
        if isinstance(value, Tensor):
            return reduce(Tensor.add, values)
        names = dict.fromkeys(name for sums in values for name in sums)
        return {name: reduce(Tensor.add, [sums[name] for sums in values if name in sums]) for name in names}

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        own = list(parameters)
        found = self.gather([parameter.grad for parameter in own])
        for parameter, gradients in zip(own, zip(*found, strict=True), strict=True):
            there = [gradient for gradient in gradients if gradient is not None]
            parameter.grad = reduce(Tensor.add, there).clone() if there else None

    def wait(self) -> None:
        self.barrier.wait()


def in_world(size: int, work: Callable[[World], T]) -> list[T]:
    """Results of the work of every thread, in the order of ranks. The error of one ends the waiting of the others."""
    barrier, table = Barrier(size), [None] * size

    def of_rank(rank: int) -> T:
        try:
            return work(ThreadWorld(rank, size, barrier, table))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(size) as threads:
        return list(threads.map(of_rank, range(size)))
