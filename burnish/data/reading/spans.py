"""Rows as byte ranges of a text file: indexed once, read and parsed on access.

Used by the readers of text (JSON, CSV, documents). The index of a file is two or three arrays of integers; the lines of
JSON are located in one fast pass without parsing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from burnish.data.reading.content import Content, chunks
from burnish.data.row import Row
from burnish.data.rows import Indices, Rows
from burnish.errors import DataError

MARK = b"\xef\xbb\xbf"
"""The byte order mark that some editors write before UTF-8."""

_NUM_FIRST, _NUM_SPREAD = 1000, 250
"""Numbers of rows that are read to determine the columns: at the beginning, and evenly spaced over the rest."""


class HalfSurrogateError(DataError):
    """A row whose text cannot be encoded. It is found when a file is opened, but it is an invalid row."""


class Parser(Protocol):
    """Parses a row from its bytes; raises a DataError with the line. Picklable, like the rows."""

    def __call__(self, raw: bytes, line: int) -> Row: ...


@dataclass(frozen=True, eq=False, slots=True)
class Spans:
    """Byte ranges of the rows of a file."""

    starts: Indices
    """[n] the first byte of each row."""
    stops: Indices
    """[n] the byte after each row."""
    lines: Indices | None
    """[n] the line on which each row begins, from 1; None: row i is line i + 1."""

    def __len__(self) -> int:
        return len(self.starts)

    def line(self, index: int) -> int:
        return int(self.lines[index]) if self.lines is not None else range(len(self))[index] + 1


@dataclass(frozen=True, eq=False, slots=True)
class SpanRows(Rows):
    """Rows of a text file."""

    source: str
    content: Content
    spans: Spans
    parse: Parser
    fingerprint: str
    columns: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]
        raw = self.content.read(int(self.spans.starts[index]), int(self.spans.stops[index]))
        return self.parse(raw, self.spans.line(index))

    def where(self, index: int) -> str:
        line = self.spans.line(index)
        number = range(len(self))[index]
        neighbors = (other for other in (number - 1, number + 1) if 0 <= other < len(self))
        if any(self.spans.line(other) == line for other in neighbors):  # an array that is written on one line
            return f"{self.source} row {number + 1} (line {line})"
        return f"{self.source} line {line}"

    @property
    def sizes(self) -> Indices:
        return self.spans.stops - self.spans.starts

    @property
    def lines(self) -> Sequence[int]:
        """Line of each row, from 1."""
        return range(1, len(self) + 1) if self.spans.lines is None else self.spans.lines.tolist()


def columns_with_values(rows: Rows) -> tuple[str, ...]:
    """Returns the columns with a value in a part of the rows."""
    step = max(1, (len(rows) - _NUM_FIRST) // _NUM_SPREAD)
    indices = [*range(min(_NUM_FIRST, len(rows))), *range(_NUM_FIRST, len(rows), step)]
    found: dict[str, None] = {}
    refused: HalfSurrogateError | None = None
    for index in indices:
        try:
            found |= dict.fromkeys(name for name, value in rows[index].items() if value is not None)
        except HalfSurrogateError as error:
            refused = refused or error
    if refused is not None and not found:
        raise refused
    return tuple(found)


def line_spans(content: Content, kind: str) -> tuple[Spans, str]:
    """Returns the ranges of all lines that are not blank, and the fingerprint of the content as rows of this kind."""
    digest = hashlib.sha256(f"burnish {kind} rows 1\n".encode())
    ends: list[Indices] = [np.empty(0, np.int64)]
    blank_candidates: list[Indices] = [np.zeros(1, np.int64)]
    position, at_line_start = 0, False
    for chunk in chunks(content):
        digest.update(chunk)
        values = np.frombuffer(chunk, np.uint8)
        newlines = np.flatnonzero(values == _NEWLINE)
        begins = newlines[newlines + 1 < len(values)] + 1
        begins = np.concatenate([np.zeros(1, np.int64), begins]) if at_line_start else begins
        blank_candidates.append(begins[_IS_SPACE[values[begins]]] + position)
        ends.append(newlines + position)
        position += len(values)
        at_line_start = values[-1] == _NEWLINE
    ends += [] if at_line_start else [np.array([position])]
    return _without_blank(content, np.concatenate(ends), np.concatenate(blank_candidates)), digest.hexdigest()


_NEWLINE = 10
_IS_SPACE = np.zeros(256, np.bool_)
_IS_SPACE[list(b" \t\r\n\v\f")] = True


def _without_blank(content: Content, stops: Indices, blank_candidates: Indices) -> Spans:
    """Returns the lines that end at ``stops`` without blank ones; only lines at ``blank_candidates`` may be blank."""
    starts = np.concatenate([np.zeros(1, np.int64), stops[:-1] + 1])
    if content.read(0, min(content.size, len(MARK))) == MARK:
        starts[0] = blank_candidates[0] = len(MARK)
    keep = starts < stops
    for line in np.searchsorted(starts, blank_candidates):
        if keep[line]:
            keep[line] = bool(content.read(int(starts[line]), int(stops[line])).strip())
    if keep.all():
        return Spans(starts, stops, None)
    lines = None if keep[: keep.sum()].all() else np.flatnonzero(keep) + 1
    return Spans(starts[keep], stops[keep], lines)


def decoded(path: str, raw: bytes, line: int) -> str:
    """Decodes bytes that begin on ``line``."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line += raw.count(b"\n", 0, error.start)
        raise DataError(
            given=f"{path} line {line} is not UTF-8: {error.reason} (byte 0x{raw[error.start]:02x})",
            rule="data files are UTF-8 text",
            remedy="save the file as UTF-8",
        ) from error


def no_rows(path: str) -> DataError:
    return DataError(given=f"{path} has no rows", rule="a data file has at least one row", remedy="fill the file")
