"""Reader of rows that came from memory and were stored by `data.memory`: messages name them by their number alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from burnish.data.row import Row
from burnish.data.rows import Indices, Rows
from burnish.data.settings import ROWS_IN_MEMORY
from burnish.errors import DataError


@dataclass(frozen=True, eq=False, slots=True)
class StoredRows(Rows):
    """Rows of a stored file."""

    rows: Rows
    source: str = ROWS_IN_MEMORY
    columns: tuple[str, ...] = field(init=False)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", self.rows.columns)
        object.__setattr__(self, "fingerprint", self.rows.fingerprint)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]
        return self.rows[index]

    @property
    def sizes(self) -> Indices | None:
        return self.rows.sizes

    def where(self, index: int) -> str:
        article = "the " if self.source.startswith(ROWS_IN_MEMORY) else ""
        return f"row {range(len(self))[index]} of {article}{self.source} (counted from 0)"

    def named(self, name: str) -> StoredRows:
        """The same rows under the name that their source has in a mixture."""
        return replace(self, source=name)


def missing_stored_rows(path: str) -> DataError:
    """Error for a stored file that is not in the cache folder any more."""
    return DataError(
        given=f"the {ROWS_IN_MEMORY} of this recipe are not in the cache folder any more ({path})",
        rule="rows that are given in memory are stored in the cache folder, and a recipe has the path of their file",
        remedy="give the same rows again from Python, which stores them again",
    )
