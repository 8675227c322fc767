"""Groups from prepared rows: shuffled anew in every epoch by (seed, epoch) alone, so resuming needs one number."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from burnish.types import Group


class RowSource:
    """Steps of `sequences_per_step` rows through shuffled epochs. The last step takes what remains."""

    def __init__(
        self,
        rows: Sequence[Group],
        *,
        sequences_per_step: int,
        seed: int,
        epochs: float = 1.0,
        max_steps: int | None = None,
    ) -> None:
        """
        Args:
            rows: the prepared groups, at least one.
            sequences_per_step: rows of one optimiser step.
            seed: of the order.
            epochs: passes over the rows, also broken ones; rounded to whole rows, at least one.
            max_steps: steps instead of epochs; None: as many as the epochs take.
        """
        assert len(rows) > 0, "a source has rows"
        self.rows = rows
        self.seed = seed
        self.sequences_per_step = sequences_per_step
        total = max(1, round(epochs * len(rows))) if max_steps is None else max_steps * sequences_per_step
        self.total = total
        self.position = 0

    @property
    def num_steps(self) -> int:
        return math.ceil(self.total / self.sequences_per_step)

    def __iter__(self) -> Iterator[Sequence[Group]]:
        epoch, order = -1, np.empty(0, dtype=np.int64)
        while self.position < self.total:
            end = min(self.position + self.sequences_per_step, self.total)
            groups = []
            for index in range(self.position, end):
                if index // len(self.rows) != epoch:
                    epoch = index // len(self.rows)
                    order = np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))
                groups.append(self.rows[int(order[index % len(self.rows)])])
            self.position = end
            yield groups

    def state(self) -> dict[str, int]:
        return {"position": self.position}

    def restore(self, state: dict[str, int]) -> None:
        self.position = state["position"]
