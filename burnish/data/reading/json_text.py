"""Reader of JSON lines, and of arrays of JSON objects.

Uses the standard library, not `datasets`. The JSON loader of datasets 5.2 (through pyarrow) silently changes text: a
column of dates such as "2024-01-01" becomes timestamps, and in a column of mixed types the string "42" becomes the
number 42, "null" becomes None, and '{"a": 1}' an object. Here a row has exactly the values of its line.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from burnish.data.reading.content import Content, open_content
from burnish.data.reading.spans import (
    MARK,
    HalfSurrogateError,
    SpanRows,
    Spans,
    columns_with_values,
    decoded,
    line_spans,
    no_rows,
)
from burnish.data.row import Row
from burnish.errors import DataError

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class JsonParser:
    """Parser of one JSON object."""

    path: str

    def __call__(self, raw: bytes, line: int) -> Row:
        text = decoded(self.path, raw, line)
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise _invalid_json(self.path, line, f"{error.msg}, column {error.colno}") from error
        except (ValueError, RecursionError) as error:
            raise _invalid_json(self.path, line, str(error)) from error
        return _row(self.path, line, text, value)


def read_json(path: str, *, lines: bool) -> SpanRows:
    """Opens a JSON file as rows; ``lines``: one object on each line, otherwise it may also be an array of objects."""
    content = open_content(path)
    is_array = not lines and content.read(0, min(content.size, 4096)).removeprefix(MARK).lstrip()[:1] == b"["
    spans, fingerprint = _array_spans(path, content) if is_array else line_spans(content, "json")
    if len(spans) == 0:
        raise no_rows(path)
    rows = SpanRows(path, content, spans, JsonParser(path), fingerprint)
    return replace(rows, columns=columns_with_values(rows))


def _array_spans(path: str, content: Content) -> tuple[Spans, str]:
    """Locates the elements of an array; the array is read once as a whole, and every element is checked."""
    data = content.read(0, content.size)
    skipped = len(MARK) if data.startswith(MARK) else 0
    text = decoded(path, data[skipped:], 1)
    line, at, position = 1, 0, skipped
    spans: list[tuple[int, int, int]] = []
    try:
        for start, end, value in _elements(text):
            line += text.count("\n", at, start)
            position += len(text[at:start].encode())
            size = len(text[start:end].encode())
            with suppress(HalfSurrogateError):  # an invalid row when it is read, not an invalid file
                _row(path, line, text[start:end], value)
            spans.append((position, position + size, line))
            line, at, position = line + text.count("\n", start, end), end, position + size
    except json.JSONDecodeError as error:
        raise _invalid_json(path, error.lineno, f"{error.msg}, column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise _invalid_json(path, line, str(error)) from error
    starts, stops, lines = np.array(spans, np.int64).reshape(-1, 3).T.copy()
    return Spans(starts, stops, lines), hashlib.sha256(b"burnish json array rows 1\n" + data).hexdigest()


def _elements(text: str) -> Iterator[tuple[int, int, object]]:
    """Yields start, end and value of each element of an array; raises JSONDecodeError where the text is no array."""
    at = _skip(text, text.index("[") + 1)
    more = text[at : at + 1] != "]"
    while more:
        value, end = _DECODER.raw_decode(text, at)
        yield at, end, value
        at = _skip(text, end)
        more = text[at : at + 1] == ","
        if more:
            at = _skip(text, at + 1)
        elif text[at : at + 1] != "]":
            raise json.JSONDecodeError("Expecting ',' or ']' after an element", text, at)
    if _skip(text, at + 1) != len(text):
        raise json.JSONDecodeError("Text after the end of the array", text, _skip(text, at + 1))


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    assert space is not None, "the pattern matches the empty string too"
    return space.end()


def _row(path: str, line: int, text: str, value: object) -> Row:
    if not isinstance(value, dict):
        raise DataError(
            given=f"{path} line {line} holds {_kind(value)}, not an object",
            rule="every row is one JSON object: {column: value, ...}",
            remedy=f"correct or delete line {line}",
        )
    if "\\ud" in text or "\\uD" in text:
        _check_encodable(path, line, value)
    return value


def _check_encodable(path: str, line: int, value: object) -> None:
    r"""Refuses half of a surrogate pair (``"\ud83d"``), which no tokenizer can take."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        found = _invalid_json(path, line, f"{half} is half of a surrogate pair, not a character")
        raise HalfSurrogateError(found.given, found.rule, found.remedy) from error


def _invalid_json(path: str, line: int, reason: str) -> DataError:
    return DataError(
        given=f"{path} line {line} is not valid JSON: {reason}",
        rule="a .jsonl file has one JSON object on each line; a .json file may also be one array of objects",
        remedy=f"correct or delete line {line}",
    )


def _kind(value: object) -> str:
    names = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
