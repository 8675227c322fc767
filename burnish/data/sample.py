"""Random sample of the rows of a data set, drawn by a seed.

Used by `read` and `mixture`. A sample is drawn without replacement and keeps the order of the rows. The same seed gives
the same rows on any machine, and a larger sample of the same seed has all rows of a smaller one.
"""

from __future__ import annotations

import os
import re

import numpy as np

from burnish.data.rows import Indices, Rows
from burnish.errors import DataError

_COUNTED = re.compile(r"(?P<path>.+)#(?P<count>[\d_]+)")


def split_count(path: str) -> tuple[str, int | None]:
    """Splits ``file.jsonl#500`` into the path and the number of rows. An existing file of that name is not split."""
    match = _COUNTED.fullmatch(path)
    if match is None or os.path.exists(path):
        return path, None
    return match["path"], int(match["count"])


def sample(rows: Rows, count: int, seed: int) -> Rows:
    """Draws ``count`` rows of a set at random, in their order."""
    return rows.pick(drawn(rows.source, len(rows), count, seed))


def drawn(source: str, size: int, count: int, seed: int) -> Indices:
    """Draws the indices of ``count`` of ``size`` rows, ascending."""
    if not 1 <= count <= size:
        raise DataError(
            given=f"{count} rows of {source}, which has {size}",
            rule="a sample is drawn without repetition, and has at least one row",
            remedy=f"ask for at most {size}; weight repeats rows",
        )
    return np.sort(np.random.default_rng([seed, 0x5A]).permutation(size)[:count])
