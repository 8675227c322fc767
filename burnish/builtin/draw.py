"""Random draws by a seed, the same on every platform and in every version of Python.

Python guarantees that `random.Random(text).random()` does not change, and guarantees it of no other method; so all
draws use this one.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


class Draw:
    """Random generator with a fixed sequence. Example: ``Draw("chat train 0").choice(("red", "blue"))``."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def below(self, limit: int) -> int:
        """Draws an integer from 0 to limit - 1."""
        return int(self._random.random() * limit)

    def between(self, minimum: int, maximum: int) -> int:
        """Draws an integer from minimum to maximum, both included."""
        return minimum + self.below(maximum - minimum + 1)

    def chance(self, probability: float) -> bool:
        """Draws True with this probability."""
        return self._random.random() < probability

    def choice(self, items: Sequence[Item]) -> Item:
        """Draws one of the items."""
        return items[self.below(len(items))]

    def some(self, items: Sequence[Item], count: int) -> list[Item]:
        """Draws `count` distinct items, in a drawn order."""
        left = list(items)
        return [left.pop(self.below(len(left))) for _ in range(count)]


def bucket(text: str, count: int = 10) -> int:
    """Bucket of a text by its hash, from 0 to count - 1; it decides the split."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % count
