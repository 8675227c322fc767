"""Order of rows in epochs: a function of the seed, such that no step has a row twice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def num_draws(rows: int, *, sequences_per_step: int, epochs: float = 1.0, max_steps: int | None = None) -> int:
    """Number of rows that a whole run draws, see `RowSource`."""
    return max(1, round(epochs * rows)) if max_steps is None else max_steps * min(sequences_per_step, rows)


def epoch_order(seed: int, epoch: int, rows: int) -> NDArray[np.int64]:
    """[rows] the order of the rows in an epoch that begins with a step."""
    return np.random.default_rng([seed, epoch]).permutation(rows)


def following(order: NDArray[np.int64], before: NDArray[np.int64], *, begun: int, step: int) -> NDArray[np.int64]:
    """Order of an epoch after another one, such that the step that contains both has no row twice.

    Args:
        order: [rows] the epoch's own order; only rows that would be twice in the shared step move behind it.
        before: [rows] the order of the epoch before.
        begun: number of rows of the shared step that are of the epoch before; 0: the epoch begins with a step.
        step: rows of a step, at most the number of rows.

    Example: ``following([3, 1, 0, 2], [0, 2, 1, 3], begun=1, step=3)`` is ``[1, 0, 3, 2]``: 3 waits for the next step.
    """
    if not begun:
        return order
    free = order[~np.isin(order, before[-begun:])][: step - begun]
    return np.concatenate([free, order[~np.isin(order, free)]])
