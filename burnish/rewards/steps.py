"""Steps of a response: where they end in its text, and the reward that their values give together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from burnish.rewards.normalize import THOUGHT_TAGS
from burnish.rounding import summed

Aggregation = Literal["sum", "mean", "minimum", "product", "last"]

_TAGS = sorted((tag for pair in THOUGHT_TAGS for tag in pair), key=len, reverse=True)

AGGREGATIONS: Mapping[Aggregation, Callable[[Sequence[float]], float]] = MappingProxyType(
    {
        "sum": summed,
        "mean": lambda values: summed(values) / len(values),
        "minimum": min,
        "product": math.prod,
        "last": lambda values: values[-1],
    }
)
"""Name → function of the values of at least one step."""


def step_ends(text: str, separator: str = "\n") -> tuple[int, ...]:
    """Index of the last character that is no white space of each step.

    Steps are the parts of the text between separators. A part that is white space and tags of a thought alone is no
    step: it belongs to the step after it, if there is one.

    Example: of ``"<think>\\n2 + 2 = 4\\n</think>\\n4"`` the ends are 17 and 28, of the two lines with a 4 at their end.
    """
    return tuple(_ends(text, separator))


def _ends(text: str, separator: str) -> Iterator[int]:
    start = 0
    for part in text.split(separator):
        if _without_tags(part):
            yield start + len(part.rstrip()) - 1
        start += len(part) + len(separator)


def _without_tags(part: str) -> str:
    for tag in _TAGS:
        part = part.replace(tag, "")
    return part.strip()
