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
from torch import Tensor

from burnish.rollouts.serialization import TrainingItem, load_items, store_items
from burnish.rollouts.settings import ReplayRule

Replayed = tuple[int, TrainingItem]
"""An item with the step for which it was sampled."""


@dataclass(eq=False)
class ReplayBuffer:
    """Replay buffer of the newest training items. Draws are a function of the seed and of the items added."""

    rule: ReplayRule
    seed: int

    def __post_init__(self) -> None:
        self._items: deque[Replayed] = deque(maxlen=self.rule.groups)

    def draw(self, batch_size: int, step: int) -> list[Replayed]:
        """Different items for a batch of this size, each with the step for which it was sampled, the oldest first."""
        count = min(self.rule.count(batch_size), len(self._items))
        indices = np.random.default_rng([self.seed, 0x4E9, step]).permutation(len(self._items))[:count]
        return [self._items[index] for index in sorted(indices.tolist())]

    def add(self, step: int, items: Sequence[TrainingItem]) -> None:
        """Adds the items of a step; the oldest are dropped from a full buffer."""
        self._items.extend((step, item) for item in items)

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The items as tensors by name and plain values."""
        tensors, items = store_items([item for _, item in self._items], "replay")
        return tensors, {"steps": [step for step, _ in self._items], "items": items}

    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Restores a `state_dict`; other tensors are ignored."""
        self._items.clear()
        self._items.extend(zip(values["steps"], load_items(tensors, values["items"], "replay"), strict=True))
