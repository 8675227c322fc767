"""Streaming data set: groups for training while the remaining rows are still tokenized in the background.

Between `dataset` and the sources. A background process tokenizes a large set into the cache; until it is done, the rows
of a step are tokenized when they are drawn. Both ways give the same groups, so timing does not change training. Errors
of a row appear when the row is drawn, or when all rows are tokenized.

Where rows may be left out (`DatasetSpec.may_leave_out`), all rows are tokenized first: an epoch has each usable row
once, so their number must be known before the first draw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

import numpy as np

from burnish.data.cache import build_in_background, cached_samples
from burnish.data.dataset import DatasetSpec, TokenizedDataset
from burnish.data.processes import Process
from burnish.errors import DataError
from burnish.types import Group

AT_ONCE = 8192
"""Maximum rows of a set that is tokenized before training begins: a few seconds, and errors appear first."""

_LONGEST_AMONG = 256
"""Number of rows among which `longest` searches while not all are tokenized."""


class StreamingDataset(Sequence[Sequence[Group]]):
    """Sequence of draws: the groups of each usable row, or one piece of a document.

    A context manager: its exit stops the background tokenization. Example: ``data = StreamingDataset(spec); data[3]``,
    the groups of the fourth usable row; ``data.whole().report``.
    """

    def __init__(self, preparation: DatasetSpec, told: Callable[[int, int], None] | None = None) -> None:
        """Starts the tokenization of the rows, if they are not in the cache.

        A set of at most `AT_ONCE` rows is tokenized here, and so is a set whose number of draws is unknown before:
        documents, and rows that may be left out.

        Args:
            told: progress callback during a wait, called with the number of rows done and of all rows.

        Raises:
            DataError: a row has an error; in a large set it may appear later.
        """
        self.preparation = preparation
        self._told = told
        self._background: Process | None = None
        self._dataset: TokenizedDataset | None = None
        self._draws: Sequence[Sequence[Group]] = ()
        self._callback: Callable[[TokenizedDataset], None] | None = None
        builder = preparation.builder
        self._must_count = builder.format.documents or preparation.may_leave_out
        """True if the number of draws is known only when all rows are tokenized."""
        if len(builder.rows) > AT_ONCE and not self._must_count and cached_samples(builder) is None:
            self._background = build_in_background(builder)
        if self._background is None:
            self.whole()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Stops the background process; the cache keeps its finished chunks for the next run."""
        if self._background is not None:
            self._background.stop()
            self._background = None

    def when_ready(self, callback: Callable[[TokenizedDataset], None]) -> None:
        """Calls the function once with the data set, as soon as all rows are tokenized: now, if they are."""
        self._callback = callback
        if self._dataset is not None:
            callback(self._dataset)

    def validate(self) -> None:
        """Waits until all rows are validated, see `Source.validate`."""
        self.whole()

    @property
    def prepared(self) -> TokenizedDataset | None:
        """Data set of all rows; None: they are not all tokenized yet.

        Raises:
            DataError: see `DatasetSpec.whole`.
        """
        if self._dataset is None and self._background is not None and self._background.ended:
            self.whole()
        return self._dataset

    def whole(self) -> TokenizedDataset:
        """Data set of all rows; waits until they are tokenized.

        Raises:
            DataError: see `DatasetSpec.whole`.
        """
        if self._dataset is None:
            if self._background is not None:  # its finished chunks are in the cache; the rest is faster here
                self._background.stop()
                self._background = None
            self._dataset = self.preparation.whole(told=self._told)
            self._draws = self._dataset.draws
            all_usable = len(self._draws) == len(self.preparation.builder.rows)
            assert all_usable or self._must_count, "where no row may be left out, each is drawn"
            if self._callback is not None:
                self._callback(self._dataset)
        return self._dataset

    def __len__(self) -> int:
        return len(self.preparation.builder.rows) if self.prepared is None else len(self._draws)

    def __getitem__(self, index: int) -> Sequence[Group]:  # type: ignore[override]  # drawn singly
        if self.prepared is not None:
            return self._draws[index]
        try:
            return self.preparation.row(range(len(self))[index])
        except DataError:
            self.whole()  # its error lists all unusable rows, not only this one
            raise

    def example(self) -> tuple[tuple[str, bool], ...]:
        """Text of the first group, in runs: (text, whether it is learned)."""
        if self.prepared is None and (first := self.preparation.example()):
            return first
        return self.whole().report.example

    def longest(self, count: int) -> list[Group]:
        """Returns at most `count` of the longest groups; while rows are not all tokenized, of the first rows only."""
        if self.prepared is None:
            groups = [group for index in range(min(_LONGEST_AMONG, len(self))) for group in self[index]]
            return sorted(groups, key=lambda group: -group.num_tokens)[:count]
        dataset = self.whole()
        return [dataset[int(index)] for index in np.argsort(-dataset.lengths, kind="stable")[:count]]
