"""A world of threads: what several processes do, in one, each thread with a model of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from threading import Barrier, BrokenBarrierError
from typing import Any, TypeVar

from torch import Tensor, nn

from burnish.errors import Interrupted
from burnish.parallel.world import Summed, World

T = TypeVar("T")


class ThreadWorld(World):
    """One thread of several; threads that wait for one another share a barrier and a table."""

    def __init__(self, rank: int, size: int, barrier: Barrier, table: list[Any]) -> None:
        self.rank, self.size = rank, size
        self.own_share, self.shares = rank, size
        self._barrier, self._table = barrier, table

    def share(self, items: Sequence[T]) -> Sequence[T]:
        start, end = (len(items) * rank // self.size for rank in (self.rank, self.rank + 1))
        return items[start:end]

    def gather(self, item: T) -> list[T]:
        self._table[self.rank] = item
        self._barrier.wait()
        items = list(self._table)
        self._barrier.wait()
        return items

    def sum(self, value: Summed) -> Summed:
        values = self.gather(value)
        if isinstance(value, Tensor):
            return reduce(Tensor.add, values)
        names = dict.fromkeys(name for sums in values for name in sums)
        return {name: reduce(Tensor.add, [sums[name] for sums in values if name in sums]) for name in names}

    def gather_shares(self, item: T) -> list[T]:
        return self.gather(item)

    def sum_gradients(self, weights: Sequence[nn.Parameter], parts: Any = None, there: Any = None) -> None:
        own = list(weights)
        found = self.gather([parameter.grad for parameter in own])
        for parameter, gradients in zip(own, zip(*found, strict=True), strict=True):
            there = [gradient for gradient in gradients if gradient is not None]
            parameter.grad = reduce(Tensor.add, there).clone() if there else None

    def wait(self) -> None:
        self._barrier.wait()


def in_world(size: int, work: Callable[[World], T]) -> list[T]:
    """Results of the work of every thread, in the order of ranks.

    Raises the error of the first that failed by itself. Others do not wait for it any longer; an `Interrupted`, which
    all raise at the same place, lets them get there.
    """
    barrier, table = Barrier(size), [None] * size

    def of_rank(rank: int) -> T:
        try:
            return work(ThreadWorld(rank, size, barrier, table))
        except Interrupted:
            raise
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(size) as threads:
        ranks = [threads.submit(of_rank, rank) for rank in range(size)]
    errors = [error for rank in ranks if (error := rank.exception()) is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, BrokenBarrierError)):
        raise error
    return [rank.result() for rank in ranks]
