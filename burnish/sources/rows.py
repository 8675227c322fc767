"""Source of groups from rows, shuffled in every epoch by the seed, so that its state is one number.

An epoch is one pass over the rows, each exactly once; no step has a row twice. Rows that are invalid or left out by a
rule are not among them: see `burnish.data.streaming.StreamingDataset`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from burnish.sources.base import Source, State
from burnish.sources.epoch_order import epoch_order, following, num_draws
from burnish.types import Group


@runtime_checkable
class Validates(Protocol):
    """Rows that may not all be validated yet."""

    def validate(self) -> None:
        """See `Source.validate`."""


class RowSource(Source):
    """Source of steps with `sequences_per_step` different rows through shuffled epochs. The last step may be smaller.

    A step may end one epoch and begin the next. Rows that it has already are then drawn after it, see `following`.
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
            rows: the groups of each usable row; at least one row, with at least one group each. Groups of a row stay in
                one step.
            sequences_per_step: rows of one optimizer step; all rows, if there are fewer.
            seed: seed of the order.
            epochs: number of passes over the rows, may be fractional; rounded to whole rows, at least one.
            max_steps: number of steps instead of epochs; None: the length of the epochs.
            epoch_rows: number of rows of an epoch if `rows` are only its first ones in their order, as many as a run
                draws that ends within the epoch; None: `rows` are all rows, and are shuffled.
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
        """An epoch and its order, on which the order of the next one depends."""

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
            draws = (divmod(draw, size) for draw in range(self.position, end))
            groups = [group for epoch, index in draws for group in self.rows[int(self._order_of(epoch)[index])]]
            assert groups, "a source has usable rows"
            self.position = end
            yield groups

    def _order_of(self, epoch: int) -> NDArray[np.int64]:
        """[rows] the order of an epoch. After a resume it is computed from the last epoch that began with a step."""
        size, step = len(self.rows), self.sequences_per_step
        if not self.shuffles:
            return np.arange(size)
        last, order = self._order
        if last == epoch:
            return order
        if last != epoch - 1:
            period = step // math.gcd(size, step)
            last, order = epoch - epoch % period - 1, np.empty(0, np.int64)
        for number in range(last + 1, epoch + 1):
            order = following(epoch_order(self.seed, number, size), order, begun=number * size % step, step=step)
        self._order = epoch, order
        return order

    def validate(self) -> None:
        if isinstance(self.rows, Validates):
            self.rows.validate()

    def can_extend(self, step: int, num_steps: int) -> bool:
        return self.position == step * self.sequences_per_step  # the last step of an epoch may have fewer rows

    def state_dict(self) -> State:
        return {}, {"position": self.position}

    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        self.position = values["position"]
