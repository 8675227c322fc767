"""Graded groups of earlier steps, kept to be learned from again. Under `rollouts`.

What was written by earlier weights is learned from by ratios to the log-probabilities that it was written with, which
travel with it, as do its advantages: nothing is judged or credited twice. (Experience replay; for GRPO: Zhang et al.
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
"""What is learned of one prompt."""


@dataclass(eq=False)
class ReplayBuffer:
    """The newest lessons, and who draws from them: a function of the seed and of what was added."""

    rule: ReplayRule
    seed: int

    def __post_init__(self) -> None:
        self._kept: deque[tuple[int, TrainingItem]] = deque(maxlen=self.rule.groups)

    def draw(self, wanted: int, step: int) -> list[tuple[int, TrainingItem]]:
        """Different lessons for a batch of so many, each with the step that it was written for, the oldest first."""
        count = min(self.rule.count(wanted), len(self._kept))
        places = np.random.default_rng([self.seed, 0x4E9, step]).permutation(len(self._kept))[:count]
        return [self._kept[place] for place in sorted(places.tolist())]

    def add(self, step: int, lessons: Sequence[TrainingItem]) -> None:
        """Keeps lessons of a step; the oldest leave where there are too many."""
        self._kept.extend((step, lesson) for lesson in lessons)

    def state(self) -> list[dict[str, Any]]:
        """As plain data."""
        return [{"step": step, "groups": [store_group(group) for group in lesson]} for step, lesson in self._kept]

    def restore(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Puts back what `state` gave."""
        self._kept.clear()
        self._kept.extend((each["step"], tuple(load_group(group) for group in each["groups"])) for each in state)
