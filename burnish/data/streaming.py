"""What a run learns from, draw by draw, from its first step on: also while the rest is still being made into tokens.

Over `prepare`, under the sources. A large set is made ready by a process beside the training, which puts it into the
cache; until that is done, the rows of a step are made on the spot. Both give the same groups, so when it is done leaves
no trace in what is learned. What is wrong with a row shows when it is drawn, or when all are ready.

Where rows may be left out (`DatasetSpec.may_leave_out`), all are made ready first: an epoch has the usable ones, each
once, so their number has to be known before the first is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

import numpy as np

from burnish.data.cache import kept_samples, make_beside
from burnish.data.dataset import DatasetSpec, TokenizedDataset
from burnish.data.processes import Process
from burnish.errors import DataError
from burnish.types import Group

AT_ONCE = 8192
"""Rows that are made ready before the training begins: a few seconds, and mistakes in them show first."""

_LOOKED_AT = 256
"""Rows among which the longest is sought while the others are not ready."""


class StreamingDataset(Sequence[Sequence[Group]]):
    """The groups of each draw: of a usable row, or one piece of a document. A context manager: leaving it ends what is
    done beside.

    Example: ``feed = StreamingDataset(preparation); feed[3]``, the groups of the fourth usable row;
    ``feed.whole().report``.
    """

    def __init__(self, preparation: DatasetSpec, told: Callable[[int, int], None] | None = None) -> None:
        """Begins to make the rows ready, if they are not in the cache. Few rows are made ready at once, and so are rows
        of which it is not known how many draws they give: documents, and those that may be left out.

        Args:
            told: called with the rows done and all rows while the caller has to wait for them.

        Raises:
            DataError: something is wrong with the rows; of many, this may show later.
        """
        self.preparation = preparation
        self._told = told
        self._beside: Process | None = None
        self._prepared: TokenizedDataset | None = None
        self._draws: Sequence[Sequence[Group]] = ()
        self._then: Callable[[TokenizedDataset], None] | None = None
        maker = preparation.maker
        self._counts = maker.format.documents or preparation.may_leave_out
        """Whether the number of draws is known only when all rows are ready."""
        if len(maker.rows) > AT_ONCE and not self._counts and kept_samples(maker) is None:
            self._beside = make_beside(maker)
        if self._beside is None:
            self.whole()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """What is still being made beside is left as it is; the cache keeps it for the next time."""
        if self._beside is not None:
            self._beside.stop()
            self._beside = None

    def when_ready(self, then: Callable[[TokenizedDataset], None]) -> None:
        """Has the function called once, with all rows: now, if they are ready."""
        self._then = then
        if self._prepared is not None:
            then(self._prepared)

    def settle(self) -> None:
        """Waits until all rows are looked at, see `Source.settle`."""
        self.whole()

    @property
    def prepared(self) -> TokenizedDataset | None:
        """All rows; None: they are not ready yet.

        Raises:
            DataError: see `DatasetSpec.whole`.
        """
        if self._prepared is None and self._beside is not None and self._beside.ended:
            self.whole()
        return self._prepared

    def whole(self) -> TokenizedDataset:
        """All rows; waits until they are ready.

        Raises:
            DataError: see `DatasetSpec.whole`.
        """
        if self._prepared is None:
            if self._beside is not None:  # what it has made is in the cache; the rest is made faster here
                self._beside.stop()
                self._beside = None
            self._prepared = self.preparation.whole(told=self._told)
            self._draws = self._prepared.draws
            usable = len(self._draws) == len(self.preparation.maker.rows)
            assert usable or self._counts, "where no row may be left out, each is drawn"
            if self._then is not None:
                self._then(self._prepared)
        return self._prepared

    def __len__(self) -> int:
        return len(self.preparation.maker.rows) if self.prepared is None else len(self._draws)

    def __getitem__(self, index: int) -> Sequence[Group]:  # type: ignore[override]  # drawn singly
        if self.prepared is not None:
            return self._draws[index]
        try:
            return self.preparation.row(range(len(self))[index])
        except DataError:
            self.whole()  # which says what is wrong with all rows, not with one
            raise

    def example(self) -> tuple[tuple[str, bool], ...]:
        """The first group as text, in runs: (text, whether it is learned)."""
        if self.prepared is None and (first := self.preparation.example()):
            return first
        return self.whole().report.example

    def longest(self, most: int) -> list[Group]:
        """The longest groups, so many at most; of rows that are not ready yet, those among the first ones."""
        if self.prepared is None:
            groups = [group for index in range(min(_LOOKED_AT, len(self))) for group in self[index]]
            return sorted(groups, key=lambda group: -group.num_tokens)[:most]
        prepared = self.whole()
        return [prepared[int(index)] for index in np.argsort(-prepared.lengths, kind="stable")[:most]]
