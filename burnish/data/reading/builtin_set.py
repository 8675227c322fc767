"""Sets that come with the package, generated when they are read: ``builtin:chat``, ``builtin:chat/test``."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from difflib import get_close_matches

from burnish.builtin.places import PREFIX
from burnish.builtin.sets import SETS, SPLITS, builtin_rows
from burnish.data.row import Row
from burnish.data.rows import Rows
from burnish.errors import DataError


@dataclass(frozen=True, eq=False, slots=True)
class BuiltinRows(Rows):
    """The rows of one split of a set; they are small, and held in memory."""

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
    """Whether a path names a set that comes with the package."""
    return path.startswith(PREFIX)


def read_builtin(path: str, split: str | None) -> BuiltinRows:
    """A split of a set, "train" where none is named."""
    name, _, named = path.removeprefix(PREFIX).partition("/")
    if name not in SETS:
        near = get_close_matches(name, SETS, n=1)
        raise DataError(
            given=f"{path} is no set that comes with the package",
            rule=f"the sets that come with it are: {', '.join(PREFIX + each for each in SETS)}",
            remedy=f"did you mean {PREFIX}{near[0]}?" if near else "name one of them, or a file",
        )
    if split and named and split != named:
        raise DataError(
            given=f"{path} with split {split!r}", rule="a split is named once", remedy="leave one of them out"
        )
    wanted = split or named or SPLITS[0]
    chosen = next((each for each in SPLITS if each == wanted), None)
    if chosen is None:
        raise DataError(
            given=f"split {wanted!r} of {PREFIX}{name}",
            rule=f"its splits are: {', '.join(SPLITS)}",
            remedy=f"name one of them: {PREFIX}{name}/{SPLITS[-1]}",
        )
    items = builtin_rows(name, chosen)
    digest = hashlib.sha256(b"burnish builtin rows 1\n" + "\n".join(map(json.dumps, items)).encode())
    return BuiltinRows(path, tuple(items), tuple(items[0]), digest.hexdigest())
