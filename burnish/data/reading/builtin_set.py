"""Reader of built-in data sets, which are generated when they are read: ``builtin:chat``, ``builtin:chat/test``."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from burnish.builtin.places import PREFIX
from burnish.builtin.sets import SETS, SPLITS, builtin_rows
from burnish.data.row import Row
from burnish.data.rows import Rows
from burnish.errors import DataError
from burnish.similar import similar


@dataclass(frozen=True, eq=False, slots=True)
class BuiltinRows(Rows):
    """Rows of one split of a built-in data set, in memory."""

    source: str
    items: tuple[Row, ...]
    """At least one."""
    columns: tuple[str, ...]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]
        return self.items[index]

    def where(self, index: int) -> str:
        return f"{self.source} row {range(len(self))[index]} (counted from 0)"


def is_builtin(path: str) -> bool:
    """True if a path names a built-in data set."""
    return path.startswith(PREFIX)


def read_builtin(path: str, split: str | None) -> BuiltinRows:
    """Opens a split of a built-in data set (default "train")."""
    name, _, named = path.removeprefix(PREFIX).partition("/")
    if name not in SETS:
        near = similar(name, SETS)
        raise DataError(
            given=f"{path} is no set that comes with the package",
            rule=f"the sets that come with it are: {', '.join(PREFIX + known for known in SETS)}",
            remedy=f"did you mean {PREFIX}{near[0]}?" if near else "name one of them, or a file",
        )
    if split and named and split != named:
        raise DataError(
            given=f"{path} with split {split!r}", rule="a split is named once", remedy="leave one of them out"
        )
    requested = split or named or SPLITS[0]
    chosen = next((known for known in SPLITS if known == requested), None)
    if chosen is None:
        raise DataError(
            given=f"split {requested!r} of {PREFIX}{name}",
            rule=f"its splits are: {', '.join(SPLITS)}",
            remedy=f"name one of them: {PREFIX}{name}/{SPLITS[-1]}",
        )
    items = builtin_rows(name, chosen)
    digest = hashlib.sha256(b"burnish builtin rows 1\n" + "\n".join(map(json.dumps, items)).encode())
    return BuiltinRows(path, tuple(items), tuple(items[0]), digest.hexdigest())
