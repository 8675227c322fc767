"""Order of prompts: shuffled epochs, or a curriculum that prefers prompts that are solved about half the time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from burnish.sampling.uniform import uniform
from burnish.sources.epoch_order import epoch_order

UPDATE_SHARE = 0.5
"""Share of a new pass rate in the running pass rate."""
MIN_WEIGHT = 0.05
"""Weight of a row that is always or never solved; a row that is solved half the time has weight 1."""


@dataclass(eq=False)
class PromptOrder:
    """Endless order of rows: a function of the seed and of the pass rates so far."""

    rows: int
    """Number of rows."""
    seed: int
    curriculum: bool = False
    """Whether rows are drawn by their running pass rate p, with weight 4 p (1 − p), the variance of their rewards.
    Unseen rows count as half solved. False: every epoch has each row once."""
    position: int = 0
    """Number of rows drawn so far."""
    pass_rates: dict[int, float] = field(default_factory=dict)
    """Row → running pass rate; empty without a curriculum."""

    def take(self, count: int) -> list[int]:
        """The next rows."""
        rows = self._by_rate(count) if self.curriculum else self._by_epoch(count)
        self.position += count
        return rows

    def update(self, row: int, pass_rate: float) -> None:
        """Takes the share of a row's responses that were right."""
        if self.curriculum:
            before = self.pass_rates.get(row)
            self.pass_rates[row] = pass_rate if before is None else before + UPDATE_SHARE * (pass_rate - before)

    def state(self) -> dict[str, Any]:
        """Position and pass rates, for a checkpoint."""
        return {"position": self.position, "pass_rates": [[row, rate] for row, rate in self.pass_rates.items()]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues from a `state`."""
        self.position = state["position"]
        self.pass_rates = {int(row): float(rate) for row, rate in state["pass_rates"]}

    def _by_epoch(self, count: int) -> list[int]:
        draws = range(self.position, self.position + count)
        orders = {epoch: epoch_order(self.seed, epoch, self.rows) for epoch in {draw // self.rows for draw in draws}}
        return [int(orders[draw // self.rows][draw % self.rows]) for draw in draws]

    def _by_rate(self, count: int) -> list[int]:
        """Rows drawn by weight, without repetition within a call while there are enough rows."""
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
        return MIN_WEIGHT + (1 - MIN_WEIGHT) * 4 * rate * (1 - rate)
