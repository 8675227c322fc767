"""Rows of a data set: an indexed sequence that knows the file and line of each row.

Returned by `read`, which opens files and hub sets, and used by all later steps. Rows are read on demand, so a set may
be larger than memory. They can be pickled; another process opens the files again.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from burnish.data.row import Row

Indices = NDArray[np.int64]


class Rows(Sequence[Row]):
    """Rows in a fixed order. Example: ``rows[0]["question"]; rows.where(0)  # "demos.jsonl line 1"``.

    A row is read on access: `rows[i]` raises a DataError with file and line if the row is broken.
    """

    source: str
    """The path or the hub name, as the user gave it."""
    columns: tuple[str, ...]
    """Names of the columns that have a value, in order of their first appearance (in JSON lines: in the first thousand
    rows, and in a few hundred spread over the rest)."""
    fingerprint: str
    """Hash of the content (sha256, hexadecimal), the same on any machine."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Row:  # type: ignore[override]  # taken singly; see `pick` for several
        """Reads one row; negative indices count from the end."""

    @abstractmethod
    def where(self, index: int) -> str:
        """Returns the place of row ``index`` for the user: file and line."""

    def source_of(self, index: int) -> str:
        """Returns the name of the source of row ``index``; it differs only between the rows of a mixture."""
        return self.source

    @property
    def sizes(self) -> Indices | None:
        """[n] bytes of each row in its file; None: they are not known without reading the rows."""
        return None

    def pick(self, indices: Sequence[int] | Indices) -> Rows:
        """Selects the rows of these indices, in this order, without reading them."""
        return PickedRows(self, np.asarray(indices, np.int64))


@dataclass(frozen=True, eq=False, slots=True)
class PickedRows(Rows):
    """Selection of the rows of another set, with repetitions."""

    rows: Rows
    indices: Indices
    """[n] indices in ``rows``."""
    source: str = field(init=False)
    columns: tuple[str, ...] = field(init=False)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        stored = np.ascontiguousarray(self.indices, "<i8")
        digest = hashlib.sha256(f"burnish picked rows {self.rows.fingerprint}".encode())
        digest.update(stored.view(np.uint8).data)
        object.__setattr__(self, "source", self.rows.source)
        object.__setattr__(self, "columns", self.rows.columns)
        object.__setattr__(self, "fingerprint", digest.hexdigest())

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]
        return self.rows[int(self.indices[index])]

    @property
    def sizes(self) -> Indices | None:
        sizes = self.rows.sizes
        return None if sizes is None else sizes[self.indices]

    def where(self, index: int) -> str:
        return self.rows.where(int(self.indices[index]))

    def source_of(self, index: int) -> str:
        return self.rows.source_of(int(self.indices[index]))


def joined_sizes(parts: Sequence[Rows]) -> Indices | None:
    """[n] bytes of each row of several sets; None: those of one are not known."""
    sizes = [part.sizes for part in parts]
    known = [size for size in sizes if size is not None]
    return np.concatenate(known) if known and len(known) == len(sizes) else None


def joined_fingerprint(kind: str, parts: Sequence[str]) -> str:
    """Combines several fingerprints, in order, into one."""
    return hashlib.sha256("\n".join([f"burnish {kind}", *parts]).encode()).hexdigest()
