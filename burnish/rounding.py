"""What is 0 in the reals is 0: differences and sums of which nothing is left but the rounding of floats.

Below everything that compares rewards. A difference of 1e-17 is no signal, and becomes one where it is divided by a
deviation of like size, or where an optimizer normalizes the gradient that it makes. Pure Python, without torch: the
processes that run rewards start without it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction

ROUNDING = 2.0**-40
"""Share of the largest number involved below which a result is rounding: float64 has 2^-53 for one operation, and this
leaves room for the thousands of operations that make a reward. Differences between float32 numbers (2^-24) are far
above it."""


def alike(values: Sequence[float]) -> bool:
    """Whether finite numbers are the same up to rounding. Example: ``alike([0.1 + 0.2, 0.3])``; so are none at all."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    return high - low <= ROUNDING * max(abs(low), abs(high))


def summed(terms: Iterable[float]) -> float:
    """The sum, rounded once, and 0 where nothing but rounding is left of its terms.

    Example: ``summed([0.1, 0.2, -0.3]) == 0``.
    """
    listed = list(terms)
    total = math.fsum(listed)
    return 0.0 if abs(total) <= ROUNDING * math.fsum(map(abs, listed)) else total


def from_mean(values: Sequence[float]) -> list[float]:
    """Each finite number minus their mean, computed exactly and rounded once; 0 where nothing but rounding is left.

    The order of the numbers changes nothing. Example: ``from_mean([0.7] * 8) == [0] * 8``, and the middle one of 0.1,
    0.2 and 0.3 has 0.
    """
    exact = [Fraction(value) for value in values]
    mean = sum(exact, Fraction()) / max(1, len(exact))
    least = ROUNDING * max(map(abs, values), default=0.0)
    differences = (float(value - mean) for value in exact)
    return [0.0 if abs(difference) <= least else difference for difference in differences]


def deviation(values: Sequence[float]) -> float:
    """The standard deviation with n − 1 in its denominator; 0 of alike numbers, and of fewer than two."""
    if len(values) < 2:
        return 0.0
    return math.sqrt(math.fsum(difference**2 for difference in from_mean(values)) / (len(values) - 1))
