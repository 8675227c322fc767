"""Rows whose groups are changed when they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from burnish.sources.rows import Validates
from burnish.types import Group


class MappedRows(Sequence[Sequence[Group]]):
    """Rows with a function applied to each group. Example: ``MappedRows(rows, Group.expanded)``, one response each."""

    def __init__(self, rows: Sequence[Sequence[Group]], change: Callable[[Group], Sequence[Group]]) -> None:
        self.rows = rows
        self.change = change

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Sequence[Group]:  # type: ignore[override]  # drawn singly
        return [changed for group in self.rows[row] for changed in self.change(group)]

    def validate(self) -> None:
        """See `Source.validate`."""
        if isinstance(self.rows, Validates):
            self.rows.validate()
