"""Columns of images, videos and sounds, which are refused until models are given more than text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from burnish.data.formats.format import Convert
from burnish.data.records import AnyExample
from burnish.data.row import Row
from burnish.errors import DataError

_LISTS = ("images", "videos", "audios")
_SINGLE = ("image", "video", "audio")
"""Columns that may also have another meaning (a container's image, say)."""
_ALL = frozenset((*_LISTS, *_SINGLE))
_MARK = re.compile(r"<\|?(image|video|audio)(_pad)?\|?>")


@dataclass(frozen=True, slots=True)
class WithoutMedia:
    """Conversion of rows that refuses rows with images, videos or sounds."""

    convert: Convert

    def __call__(self, row: Row) -> AnyExample:
        if _ALL.isdisjoint(row):
            return self.convert(row)
        column = next((name for name in _LISTS if row.get(name)), None)
        if column is None:
            column = next((name for name in _SINGLE if row.get(name) and _is_medium(row, name)), None)
        if column is not None:
            raise DataError(
                given=f"the row has a column {column}",
                rule="images, videos and sounds are not implemented yet: models are given text only",
                remedy=f"remove the column {column} and the marks in the text, or leave such rows out",
            )
        return self.convert(row)


def _is_medium(row: Row, column: str) -> bool:
    """True if the value is an object or a list (bytes, a path), or has a mark in the row's text. A path or URL alone
    says where a row comes from, say: its column is without use."""
    return isinstance(row[column], Mapping | list | bytes) or any(_has_mark(entry) for entry in row.values())


def _has_mark(value: object) -> bool:
    if isinstance(value, str):
        return _MARK.search(value) is not None
    if isinstance(value, Mapping):
        return any(map(_has_mark, value.values()))
    return isinstance(value, list) and any(map(_has_mark, value))
