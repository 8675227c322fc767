"""Groups from rows: shuffled anew in every epoch by the seed, so resuming needs one number.

An epoch is one pass over the rows, each exactly once; no step has a row twice. What cannot be used, or is left out by a
rule, is no row here: see `burnish.data.Feed`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from burnish.types import Group


@runtime_checkable
class Validates(Protocol):
    """Rows that may not all have been looked at yet."""

    def settle(self) -> None:
        """See `Source.settle`."""


class RowSource:
    """Steps of `sequences_per_step` different rows through shuffled epochs. The last step takes what remains.

    A step may end one epoch and begin the next. A row that it has already is then drawn after it, see `following`.
    """

    def __init__(
        self,
        rows: Sequence[Sequence[Group]],
        *,
        sequences_per_step: int,
        seed: int,
        epochs: float = 1.0,
        max_steps: int | None = None,
        epoch_rows: int | None = None,
    ) -> None:
        """
        Args:
            rows: the groups of each usable row, one row and one group of each at least; several stay together.
            sequences_per_step: rows of one optimizer step; of fewer rows than that, a step has all.
            seed: of the order.
            epochs: passes over the rows, also broken ones; rounded to whole rows, at least one.
            max_steps: steps instead of epochs; None: as many as the epochs take.
            epoch_rows: rows of an epoch, where `rows` are the first ones of its order, as many as a run draws that ends
                within it; None: `rows` are all, and are shuffled.
        """
        assert len(rows) > 0, "a source has rows"
        self.rows = rows
        self.seed = seed
        self.shuffles = epoch_rows is None
        self.epoch_rows = len(rows) if epoch_rows is None else epoch_rows
        self.sequences_per_step = min(sequences_per_step, self.epoch_rows)
        self.total = num_draws(
            self.epoch_rows, sequences_per_step=sequences_per_step, epochs=epochs, max_steps=max_steps
        )
        assert self.shuffles or self.total <= len(rows), "rows that are drawn already are all that a run draws"
        self.position = 0
        self._order: tuple[int, NDArray[np.int64]] = -1, np.empty(0, np.int64)
        """An epoch and its order, which the next one's depends on."""

    @property
    def num_steps(self) -> int:
        return math.ceil(self.total / self.sequences_per_step)

    @property
    def epoch(self) -> float:
        return self.position / self.epoch_rows

    def __iter__(self) -> Iterator[Sequence[Group]]:
        size = len(self.rows)
        while self.position < self.total:
            end = min(self.position + self.sequences_per_step, self.total)
            places = (divmod(index, size) for index in range(self.position, end))
            groups = [group for epoch, place in places for group in self.rows[int(self._order_of(epoch)[place])]]
            assert groups, "a source has usable rows"
            self.position = end
            yield groups

    def _order_of(self, epoch: int) -> NDArray[np.int64]:
        """[rows] the order of an epoch. After a resume it is computed from the last epoch that began with a step on."""
        size, step = len(self.rows), self.sequences_per_step
        if not self.shuffles:
            return np.arange(size)
        known, order = self._order
        if known == epoch:
            return order
        if known != epoch - 1:
            period = step // math.gcd(size, step)
            known, order = epoch - epoch % period - 1, np.empty(0, np.int64)
        for each in range(known + 1, epoch + 1):
            order = following(epoch_order(self.seed, each, size), order, begun=each * size % step, step=step)
        self._order = epoch, order
        return order

    def settle(self) -> None:
        if isinstance(self.rows, Validates):
            self.rows.settle()

    def state(self) -> dict[str, int]:
        return {"position": self.position}

    def restore(self, state: dict[str, int]) -> None:
        self.position = state["position"]


def num_draws(rows: int, *, sequences_per_step: int, epochs: float = 1.0, max_steps: int | None = None) -> int:
    """Rows that a whole run draws, see `RowSource`."""
    return max(1, round(epochs * rows)) if max_steps is None else max_steps * min(sequences_per_step, rows)


def epoch_order(seed: int, epoch: int, rows: int) -> NDArray[np.int64]:
    """[rows] the order of the rows in an epoch that begins with a step."""
    return np.random.default_rng([seed, epoch]).permutation(rows)


def following(order: NDArray[np.int64], before: NDArray[np.int64], *, begun: int, step: int) -> NDArray[np.int64]:
    """An epoch's order behind that of the epoch before, such that the step in which they meet has no row twice.

    Args:
        order: [rows] the epoch's order; only rows of the open step move, behind that step.
        before: [rows] that of the epoch before.
        begun: rows of the open step that are of the epoch before; 0: the epoch begins with a step.
        step: rows of a step, as many as there are rows at most.

    Example: ``following([3, 1, 0, 2], [0, 2, 1, 3], begun=1, step=3)`` is ``[1, 0, 3, 2]``: 3 waits for the next step.
    """
    if not begun:
        return order
    free = order[~np.isin(order, before[-begun:])][: step - begun]
    return np.concatenate([free, order[~np.isin(order, free)]])
