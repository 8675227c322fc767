"""Drawing by a seed, the same on every platform and in every version of Python.

Under `world` and all that is generated from it. Python promises that `random.Random(text).random()` stays as it is, and
promises it of no other method: so all draws come from that one.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


class Draw:
    """Draws in a fixed order. Example: ``Draw("chat train 0").choice(("red", "blue"))``."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def below(self, limit: int) -> int:
        """A number from 0 to limit - 1."""
        return int(self._random.random() * limit)

    def between(self, least: int, most: int) -> int:
        """A number from least to most, both included."""
        return least + self.below(most - least + 1)

    def chance(self, share: float) -> bool:
        """Whether something happens that happens in this share of all cases."""
        return self._random.random() < share

    def choice(self, items: Sequence[Item]) -> Item:
        """One of the items."""
        return items[self.below(len(items))]

    def some(self, items: Sequence[Item], count: int) -> list[Item]:
        """``count`` different ones of the items, in a drawn order."""
        left = list(items)
        return [left.pop(self.below(len(left))) for _ in range(count)]


def bucket(text: str, count: int = 10) -> int:
    """The one of ``count`` buckets that a text belongs to, for ever: how splits are divided."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % count
