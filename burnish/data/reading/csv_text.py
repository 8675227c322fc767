"""Reader of CSV and TSV. Every value is text, unchanged: no value becomes a number, a date or None.

A row may span several lines (a quoted line break), so the file is parsed once to locate the rows; only their positions
are kept.
"""

from __future__ import annotations

import csv
import hashlib
import sys
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from burnish.data.reading.content import Content, chunks, open_content
from burnish.data.reading.spans import MARK, SpanRows, Spans, decoded, no_rows
from burnish.data.row import Row
from burnish.errors import DataError


@dataclass(frozen=True, slots=True)
class CsvParser:
    """Parser of one row."""

    path: str
    header: tuple[str, ...]
    delimiter: str

    def __call__(self, raw: bytes, line: int) -> Row:
        text = decoded(self.path, raw, line)
        with _long_fields():
            values = next(csv.reader([text], delimiter=self.delimiter, strict=True))
        return dict(zip(self.header, values, strict=True))


def read_csv(path: str, delimiter: str) -> SpanRows:
    """Opens a table as rows; its first line has the names of the columns."""
    content = open_content(path)
    digest = hashlib.sha256(f"burnish csv rows 1 {delimiter}\n".encode())
    with _long_fields():
        header, spans = _spans(path, _Lines(path, content, digest), delimiter)
    if len(spans) == 0:
        raise no_rows(path)
    return SpanRows(path, content, spans, CsvParser(path, header, delimiter), digest.hexdigest(), header)


class _Lines(Iterator[str]):
    """Iterator over the lines of a file, with the byte position after each."""

    def __init__(self, path: str, content: Content, digest: hashlib._Hash) -> None:
        self.path = path
        self.digest = digest
        self.position = len(MARK) if content.read(0, min(content.size, len(MARK))) == MARK else 0
        self.line = 0
        self.lines = self._split(content, self.position)

    def __next__(self) -> str:
        raw = next(self.lines)
        self.position += len(raw)
        self.line += 1
        return decoded(self.path, raw, self.line)

    def _split(self, content: Content, skipped: int) -> Iterator[bytes]:
        rest = b""
        for chunk in chunks(content):
            self.digest.update(chunk)
            *whole, rest = (rest + chunk[skipped:]).split(b"\n")
            skipped = 0
            yield from (line + b"\n" for line in whole)
        if rest:
            yield rest


def _spans(path: str, lines: _Lines, delimiter: str) -> tuple[tuple[str, ...], Spans]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: tuple[str, ...] = ()
    spans_and_lines = array("q")  # start, stop and line of each row: 24 bytes
    begin, line = lines.position, 1
    try:
        for values in reader:
            if not header:
                header = _header(path, values, line) if values else ()
            elif values:
                _check_width(path, header, values, line)
                spans_and_lines.extend((begin, lines.position, line))
            begin, line = lines.position, lines.line + 1
    except csv.Error as error:
        raise DataError(
            given=f"{path} line {line} is not a row of a table: {error}",
            rule="a value with a line break, a quote or the separator stands in double quotes, its own quotes doubled",
            remedy=f"correct the quotes of the row that begins on line {line}",
        ) from error
    starts, stops, numbers = np.array(spans_and_lines, np.int64).reshape(-1, 3).T.copy()
    return header, Spans(starts, stops, numbers)


def _header(path: str, values: list[str], line: int) -> tuple[str, ...]:
    names = tuple(name or f"column {at}" for at, name in enumerate(values, start=1))
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise DataError(
            given=f"{path} line {line} names the column {twice[0]!r} twice",
            rule="the first line names each column once",
            remedy="rename or delete one of them",
        )
    other = next((mark for mark in (";", "\t", "|") if len(names) == 1 and mark in names[0]), None)
    if other:
        raise DataError(
            given=f"{path} line {line} seems to be separated by {other!r}",
            rule="a .csv file is separated by commas, a .tsv file by tabs",
            remedy="let its name end in .tsv" if other == "\t" else "save it with commas",
        )
    return names


def _check_width(path: str, header: tuple[str, ...], values: list[str], line: int) -> None:
    if len(values) != len(header):
        raise DataError(
            given=f"{path} line {line} has {len(values)} values for {len(header)} columns ({', '.join(header)})",
            rule="every row has one value for each column",
            remedy=f"correct line {line}; a value with the separator in it stands in double quotes",
        )


@contextmanager
def _long_fields() -> Iterator[None]:
    """Allows values longer than 128 KiB; the limit of the module `csv` is global in the process."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)
