"""Uniform random numbers as a function of seed and coordinates, without a generator's state or order.

So the numbers of a response do not depend on other responses, on the number generated at once, or on where a run was
resumed. The response itself does so only up to rounding: products over other batches round differently, which changes
a token whose number lies at a boundary of the cumulative distribution (docs/design.md has figures).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def uniform(seed: int, *coordinates: NDArray[np.int64] | int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), multiples of 2^-53, from the seed and the coordinates.

    Every coordinate in turn is added to the state, which SplitMix64's finalizer mixes (Steele, Lea and Flood 2014,
    "Fast splittable pseudorandom number generators", section 5).

    Args:
        seed: any integer.
        coordinates: arrays that broadcast; integers modulo 2^64. Example: step, prompt, index, position.
    """
    state = _mixed(_word(seed))
    for coordinate in coordinates:
        state = _mixed(state + _GOLDEN + _word(coordinate))
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _word(value: NDArray[np.int64] | int) -> NDArray[np.uint64]:
    if isinstance(value, int):
        return np.array([value % 2**64], dtype=np.uint64)
    return value.astype(np.int64).view(np.uint64)


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return state ^ (state >> np.uint64(31))
