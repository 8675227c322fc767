"""Groups from rows: shuffled anew in every epoch by (seed, epoch) alone, so resuming needs one number."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from burnish.types import Group


@runtime_checkable
class Settles(Protocol):
    """Rows that may not all have been looked at yet."""

    def settle(self) -> None:
        """See `Source.settle`."""


class RowSource:
    """Steps of `sequences_per_step` rows through shuffled epochs. The last step takes what remains.

    A row that was left out is replaced by the next one in the epoch's order, so how long a run is depends on the
    number of rows alone, and is known before any of them is looked at.
    """

    def __init__(
        self,
        rows: Sequence[Sequence[Group]],
        *,
        sequences_per_step: int,
        seed: int,
        epochs: float = 1.0,
        max_steps: int | None = None,
        shuffle: bool = True,
    ) -> None:
        """
        Args:
            rows: the groups of each row, one row at least. No group: the row was left out; several stay together.
            sequences_per_step: rows of one optimiser step.
            seed: of the order.
            epochs: passes over the rows, also broken ones; rounded to whole rows, at least one.
            max_steps: steps instead of epochs; None: as many as the epochs take.
            shuffle: False: the rows are drawn already, and come in their order.
        """
        assert len(rows) > 0, "a source has rows"
        self.rows = rows
        self.seed = seed
        self.sequences_per_step = sequences_per_step
        self.shuffle = shuffle
        self.total = num_draws(len(rows), sequences_per_step=sequences_per_step, epochs=epochs, max_steps=max_steps)
        self.position = 0

    @property
    def num_steps(self) -> int:
        return math.ceil(self.total / self.sequences_per_step)

    def __iter__(self) -> Iterator[Sequence[Group]]:
        epoch, order, size = -1, np.empty(0, dtype=np.int64), len(self.rows)
        while self.position < self.total:
            end = min(self.position + self.sequences_per_step, self.total)
            groups: list[Group] = []
            for index in range(self.position, end):
                if index // size != epoch:
                    epoch = index // size
                    order = epoch_order(self.seed, epoch, size) if self.shuffle else np.arange(size)
                groups += self._usable(order, index % size)
            self.position = end
            yield groups

    def _usable(self, order: NDArray[np.int64], place: int) -> Sequence[Group]:
        """The groups of the first row that has any, from this place of the epoch's order on."""
        for further in range(len(order)):
            if groups := self.rows[int(order[(place + further) % len(order)])]:
                return groups
        raise AssertionError("a source has a row with groups")

    def settle(self) -> None:
        if isinstance(self.rows, Settles):
            self.rows.settle()

    def state(self) -> dict[str, int]:
        return {"position": self.position}

    def restore(self, state: dict[str, int]) -> None:
        self.position = state["position"]


def num_draws(rows: int, *, sequences_per_step: int, epochs: float = 1.0, max_steps: int | None = None) -> int:
    """How many rows a whole run draws, see `RowSource`."""
    return max(1, round(epochs * rows)) if max_steps is None else max_steps * sequences_per_step


def epoch_order(seed: int, epoch: int, rows: int) -> NDArray[np.int64]:
    """[rows] the order of the rows in an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(rows)
