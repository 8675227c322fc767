"""Common beginning of two texts."""

from __future__ import annotations


def common_prefix(one: str, other: str) -> int:
    """Returns the length of the common prefix, in characters."""
    size = min(len(one), len(other))
    if one[:size] == other[:size]:
        return size
    low, high = 0, size  # the first `low` characters are equal, the first `high` are not
    while high - low > 1:
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low
