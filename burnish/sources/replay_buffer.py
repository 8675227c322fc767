"""Replay buffer of graded groups of earlier steps.

Responses of earlier weights are trained on by ratios to the log-probabilities with which they were sampled. These, and
the advantages, are stored with them: nothing is graded or credited twice. (Experience replay; for GRPO: Zhang et al.
2025, RLEP, arXiv 2507.07451, and Sun et al. 2025, arXiv 2506.05316.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from burnish.sources.serialization import load_group, store_group
from burnish.sources.settings import ReplayRule
from burnish.types import Group

TrainingItem = tuple[Group, ...]
"""Groups that are trained on for one prompt: one with advantages, or pairs of its responses."""


@dataclass(eq=False)
class ReplayBuffer:
    """Replay buffer of the newest training items. Draws are a function of the seed and of the items added."""

    rule: ReplayRule
    seed: int

    def __post_init__(self) -> None:
        self._items: deque[tuple[int, TrainingItem]] = deque(maxlen=self.rule.groups)

    def draw(self, batch_size: int, step: int) -> list[tuple[int, TrainingItem]]:
        """Different items for a batch of this size, each with the step for which it was sampled, the oldest first."""
        count = min(self.rule.count(batch_size), len(self._items))
        indices = np.random.default_rng([self.seed, 0x4E9, step]).permutation(len(self._items))[:count]
        return [self._items[index] for index in sorted(indices.tolist())]

    def add(self, step: int, items: Sequence[TrainingItem]) -> None:
        """Adds the items of a step; the oldest are dropped from a full buffer."""
        self._items.extend((step, item) for item in items)

    def state(self) -> list[dict[str, Any]]:
        """The items as plain data."""
        return [{"step": step, "groups": [store_group(group) for group in item]} for step, item in self._items]

    def restore(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Restores a `state`."""
        self._items.clear()
        self._items.extend((item["step"], tuple(load_group(group) for group in item["groups"])) for item in state)
