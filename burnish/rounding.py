"""Exact zeros: differences and sums that consist of rounding error alone become 0.

Used wherever rewards are compared. A difference of 1e-17 is no signal, but becomes one where it is divided by a
deviation of similar size, or where an optimizer normalizes its gradient. Pure Python, without torch: the processes that
run rewards start without it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction

ROUNDING = 2.0**-40
"""Share of the largest operand below which a result is rounding error: float64 has 2^-53 for one operation, and this
leaves room for the thousands of operations that compute a reward. Differences between float32 numbers (2^-24) are far
above it."""


def alike(values: Sequence[float]) -> bool:
    """Whether finite numbers are equal up to rounding; True for an empty list. Example: ``alike([0.1 + 0.2, 0.3])``."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    return high - low <= ROUNDING * max(abs(low), abs(high))


def summed(terms: Iterable[float]) -> float:
    """The sum, rounded once; 0 if it is rounding error alone.

    Example: ``summed([0.1, 0.2, -0.3]) == 0``.
    """
    values = list(terms)
    total = math.fsum(values)
    return 0.0 if abs(total) <= ROUNDING * math.fsum(map(abs, values)) else total


def from_mean(values: Sequence[float]) -> list[float]:
    """Each finite number minus their mean, computed exactly and rounded once; 0 where only rounding error is left.

    The order of the numbers changes nothing. Example: ``from_mean([0.7] * 8) == [0] * 8``, and the middle one of 0.1,
    0.2 and 0.3 has 0.
    """
    exact = [Fraction(value) for value in values]
    mean = sum(exact, Fraction()) / max(1, len(exact))
    threshold = ROUNDING * max(map(abs, values), default=0.0)
    differences = (float(value - mean) for value in exact)
    return [0.0 if abs(difference) <= threshold else difference for difference in differences]


def deviation(values: Sequence[float]) -> float:
    """The standard deviation with n − 1 in its denominator; 0 of alike numbers, and of fewer than two."""
    if len(values) < 2:
        return 0.0
    return math.sqrt(math.fsum(difference**2 for difference in from_mean(values)) / (len(values) - 1))
