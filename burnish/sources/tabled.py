"""Rows whose streams are in a table of a teacher's probabilities."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.sources.rows import Validates
from burnish.teachers.tables import Rows, TopKTable
from burnish.types import Group


class TabledRows(Sequence[Sequence[Group]]):
    """Rows with the streams of a table."""

    def __init__(self, rows: Rows, table: TopKTable) -> None:
        self.rows, self.table = rows, table

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Sequence[Group]:  # type: ignore[override]  # drawn singly
        return self.table.fill(row, self.rows[row])

    def validate(self) -> None:
        """See `Source.validate`."""
        if isinstance(self.rows, Validates):
            self.rows.validate()
