"""An epoch has each usable row once, and a step has no row twice."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from burnish.data.dataset import TokenizedDataset
from burnish.data.limits import Limit
from burnish.data.rows import Row, Rows
from burnish.data.selection import select
from burnish.data.token_store import SHARED, RowError, TokenStore
from burnish.sources.rows import RowSource

LIMIT = 4
USABLE, LONG, BROKEN = "usable", "longer than the limit", "cannot be used"


class Numbered(Rows):
    """A number of rows."""

    source, columns, fingerprint = "rows", ("text",), "0" * 64

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]
        return {"text": str(index)}

    def where(self, index: int) -> str:
        return f"row {index}"


def prepared(kinds: Sequence[str], samples_per_row: int = 1) -> TokenizedDataset:
    """A data set with rows of these kinds; each row but the broken ones has this number of samples."""
    rows, made = Numbered(len(kinds)), [row for row, kind in enumerate(kinds) if kind != BROKEN]
    lengths = np.repeat([2 if kinds[row] == USABLE else 2 * LIMIT for row in made], samples_per_row).astype(np.int64)
    size = int(lengths.sum())
    store = TokenStore(
        tokens=np.zeros(size, np.int32),
        trainable=np.ones(size, np.bool_),
        lengths=lengths,
        prompt_lengths=np.ones(len(lengths), np.int64),
        rows=np.repeat(made, samples_per_row).astype(np.int64),
        notes=np.zeros((len(lengths), SHARED + 1), np.int32),
        ends=(),
        faults=tuple(RowError(row, "", "", "") for row, kind in enumerate(kinds) if kind == BROKEN),
        conversations=0,
    )
    selection, _ = select(rows, store, Limit(LIMIT), "drop")
    return TokenizedDataset(
        store, selection, rows, report=None, limit=Limit(LIMIT), unusable=()
    )  # draws look at no report


def drawn(source: RowSource) -> list[list[int]]:
    """Rows of each step; samples of one row count once."""
    return [list(dict.fromkeys(group.metadata["row"] for group in groups)) for groups in source]


KINDS = st.lists(st.sampled_from([USABLE, LONG, BROKEN]), min_size=1, max_size=40).filter(lambda kinds: USABLE in kinds)


@given(
    kinds=KINDS, samples=st.integers(1, 3), size=st.integers(1, 30), epochs=st.integers(1, 4), seed=st.integers(0, 9)
)
def test_each_usable_row_is_drawn_once_an_epoch_and_none_twice_in_a_step(kinds, samples, size, epochs, seed):
    usable = [row for row, kind in enumerate(kinds) if kind == USABLE]
    source = RowSource(prepared(kinds, samples).draws, sequences_per_step=size, epochs=epochs, seed=seed)
    steps = drawn(source)
    assert len(steps) == source.num_steps == math.ceil(epochs * len(usable) / min(size, len(usable)))
    assert all(len(set(step)) == len(step) for step in steps)
    flat = list(itertools.chain.from_iterable(steps))
    for epoch in range(epochs):
        assert sorted(flat[epoch * len(usable) : (epoch + 1) * len(usable)]) == usable


def test_of_ten_thousand_rows_four_in_ten_are_usable():
    """Regression: version 0.1.0 drew one row 17 times in 10 000 draws."""
    mask: NDArray[np.bool_] = np.random.default_rng(0).random(10_000) < 0.4
    source = RowSource(
        prepared([USABLE if usable else LONG for usable in mask]).draws, sequences_per_step=32, seed=0, epochs=1
    )
    usable = int(mask.sum())
    assert source.num_steps == math.ceil(usable / 32)
    times = Counter(itertools.chain.from_iterable(drawn(source)))
    assert (len(times), set(times.values())) == (usable, {1})
