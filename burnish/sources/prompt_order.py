"""Which row comes next: through shuffled epochs, or oftener those that are neither too easy nor too hard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from burnish.sampling.uniform import uniform
from burnish.sources.rows import epoch_order

MEMORY = 0.5
"""Share of a new pass rate in the running one."""
LEAST = 0.05
"""Weight of a row that is always or never solved, beside 1 for one that is solved half the time: it may change."""


@dataclass(eq=False)
class PromptOrder:
    """Rows one after another, without an end. A function of the seed and of what was told."""

    rows: int
    """How many there are."""
    seed: int
    curriculum: bool = False
    """Whether rows are drawn by their running pass rate p, with a weight of 4 p (1 − p): the variance of what their
    responses teach. Unseen rows count as half solved. False: every epoch has each row once."""
    position: int = 0
    """Rows drawn so far."""
    pass_rates: dict[int, float] = field(default_factory=dict)
    """Row → running pass rate; kept with a curriculum alone."""

    def take(self, count: int) -> list[int]:
        """The next rows."""
        rows = self._by_rate(count) if self.curriculum else self._by_epoch(count)
        self.position += count
        return rows

    def tell(self, row: int, pass_rate: float) -> None:
        """What share of a row's responses was right."""
        if self.curriculum:
            before = self.pass_rates.get(row)
            self.pass_rates[row] = pass_rate if before is None else before + MEMORY * (pass_rate - before)

    def state(self) -> dict[str, Any]:
        """Where it stands."""
        return {"position": self.position, "pass_rates": [[row, rate] for row, rate in self.pass_rates.items()]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state` was taken."""
        self.position = state["position"]
        self.pass_rates = {int(row): float(rate) for row, rate in state["pass_rates"]}

    def _by_epoch(self, count: int) -> list[int]:
        places = range(self.position, self.position + count)
        orders = {epoch: epoch_order(self.seed, epoch, self.rows) for epoch in {place // self.rows for place in places}}
        return [int(orders[place // self.rows][place % self.rows]) for place in places]

    def _by_rate(self, count: int) -> list[int]:
        """Without repetition within the call, as long as there are enough rows."""
        weights = np.array([self._weight(row) for row in range(self.rows)])
        numbers = uniform(self.seed, np.arange(self.position, self.position + count))
        chosen: list[int] = []
        for number in numbers:
            if not weights.any():
                weights = np.array([self._weight(row) for row in range(self.rows)])
            ends = np.cumsum(weights)
            row = min(int(np.searchsorted(ends, number * ends[-1], side="right")), self.rows - 1)
            weights[row] = 0.0
            chosen.append(row)
        return chosen

    def _weight(self, row: int) -> float:
        rate = self.pass_rates.get(row, 0.5)
        return LEAST + (1 - LEAST) * 4 * rate * (1 - rate)


def mean(values: Sequence[float]) -> float:
    """0 of nothing."""
    return float(np.mean(values)) if len(values) else 0.0
