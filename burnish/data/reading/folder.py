"""Reader of several files as one data set: a folder, or a pattern such as ``data/*.jsonl``, in the order of names.

A folder with files of several kinds or splits is an error, so that they are never mixed by accident.
"""

from __future__ import annotations

import glob
import os
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from burnish.data.reading.content import COMPRESSED, expanded
from burnish.data.row import Row
from burnish.data.rows import Indices, Rows, joined_fingerprint, joined_sizes
from burnish.errors import DataError

_SPLITS = {"train": "train", "test": "test"} | dict.fromkeys(("validation", "valid", "val", "dev"), "validation")


@dataclass(frozen=True, eq=False, slots=True)
class JoinedRows(Rows):
    """Rows of several files in sequence."""

    source: str
    parts: tuple[Rows, ...]
    """At least one."""
    columns: tuple[str, ...] = field(init=False)
    fingerprint: str = field(init=False)
    _stops: tuple[int, ...] = field(init=False)
    """Cumulative number of rows of the parts."""

    def __post_init__(self) -> None:
        columns = tuple(dict.fromkeys(name for part in self.parts for name in part.columns))
        object.__setattr__(self, "columns", columns)
        identity = joined_fingerprint("joined rows", [part.fingerprint for part in self.parts])
        object.__setattr__(self, "fingerprint", identity)
        object.__setattr__(self, "_stops", tuple(accumulate(map(len, self.parts))))

    def __len__(self) -> int:
        return self._stops[-1]

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]
        part, at = self._locate(index)
        return part[at]

    @property
    def sizes(self) -> Indices | None:
        return joined_sizes(self.parts)

    def where(self, index: int) -> str:
        part, at = self._locate(index)
        return part.where(at)

    def _locate(self, index: int) -> tuple[Rows, int]:
        at = range(len(self))[index]
        which = bisect_right(self._stops, at)
        return self.parts[which], at - (self._stops[which - 1] if which else 0)


def ending(path: str, known: Sequence[str]) -> str | None:
    """Returns the known extension of a file, with or without compression; None: it has none."""
    name = path.lower()
    for packed in COMPRESSED:
        name = name.removesuffix(packed)
    return next((extension for extension in known if name.endswith(extension)), None)


def is_pattern(path: str) -> bool:
    """True for a pattern of file names. (Brackets alone name a split.)"""
    return ("*" in path or "?" in path) and not os.path.exists(path)


def matching(pattern: str) -> tuple[str, ...]:
    """Returns the files that match a pattern, sorted."""
    files = sorted(name for name in glob.glob(os.path.expanduser(pattern), recursive=True) if os.path.isfile(name))
    if not files:
        raise DataError(
            given=f"{pattern} matches no file",
            rule="a pattern matches at least one file; * stands for any characters, ** for any folders",
            remedy=f"correct the pattern; the current folder is {os.getcwd()}",
        )
    return tuple(files)


def inside(path: str, split: str | None, known: Sequence[str]) -> tuple[str, ...]:
    """Returns the data files of a folder and its subfolders, sorted; only those of ``split`` if it is given."""
    root = expanded(path)
    names = sorted(
        str(file.relative_to(root)) for file in root.rglob("*") if file.is_file() and not _hidden(file, root)
    )
    files = [name for name in names if ending(name, known)]
    if not files:
        raise DataError(
            given=f"{path} is a folder without data files" + (f" (it has {', '.join(names[:5])})" if names else ""),
            rule=f"a data file ends in one of: {', '.join(known)}, also with {' or '.join(COMPRESSED)}",
            remedy="name another folder, or a file",
        )
    chosen = _of_split(path, files, split)
    kinds = sorted({str(ending(name, known)) for name in chosen})
    if len(kinds) > 1:
        raise DataError(
            given=f"{path} has files of several kinds: {', '.join(kinds)}",
            rule="the files of one folder are of one kind",
            remedy=f"name those that are meant: {os.path.join(path, '*' + kinds[0] + '*')}",
        )
    return tuple(os.path.join(path, name) for name in chosen)


def _hidden(file: Path, root: Path) -> bool:
    return any(part.startswith((".", "_")) for part in file.relative_to(root).parts)


def _of_split(path: str, names: list[str], split: str | None) -> list[str]:
    splits = dict.fromkeys(
        _SPLITS[word] for name in names for word in re.split(r"[^a-z]+", name.lower()) if word in _SPLITS
    )
    if split is None and len(splits) > 1:
        raise DataError(
            given=f"{path} has files of several splits: {', '.join(splits)}",
            rule="held-out rows are never mixed with training rows",
            remedy=f"name one, such as split: {max(splits)}, or a file",
        )
    if split is None or (split == "train" and not splits):
        return names
    chosen = [name for name in names if split in re.split(r"[-./\\]", name)] or [
        name for name in names if split in re.split(r"[-._/\\]", name)
    ]
    if not chosen:
        raise DataError(
            given=f"{path} has no files of the split {split!r}",
            rule="a split's name stands in the names of its files (train.jsonl, test-00000-of-00002.parquet)",
            remedy=f"its files: {', '.join(names[:5])}",
        )
    return chosen
