"""Rows from a file on this machine or from a hub set, each of which can say where it stands.

The first step of the data stage: `read_rows` gives `Rows`, and `formats` says what a row means.

JSON files are read with the standard library, not with `datasets`. The JSON loader of datasets 5.2 (through pyarrow)
changes text without a word: a column of dates such as "2024-01-01" becomes timestamps, and in a column of mixed types
the string "42" becomes the number 42, "null" nothing, and '{"a": 1}' an object. Here a row is what its line says.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import datasets

from burnish.errors import DataError

Row = Mapping[str, object]
"""Column name -> value, as `json` gives it: str, int, float, bool, None, list, dict."""

_READABLE = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
_LOCAL_ENDINGS = (*_READABLE, ".csv", ".tsv", ".txt", ".parquet", ".arrow", ".zst", ".xlsx")
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, eq=False, slots=True)
class Rows(Sequence[Row]):
    """The rows of one file or one split of a hub set, in their order.

    Example: ``rows = read_rows("demos.jsonl"); rows[0]["question"]; rows.where(0)  # "demos.jsonl line 1"``.
    """

    source: str
    """The path or the hub name, as the user gave it."""
    columns: tuple[str, ...]
    """Names of all columns that have a value in some row, in order of their first appearance."""
    items: Sequence[Row]
    """The rows themselves."""
    lines: Sequence[int] | None
    """The line of the file on which each row begins, from 1; None: a hub set, which has no lines."""

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]  # rows are taken singly, never sliced
        row = self.items[index]
        return row if self.lines is not None else _without_nulls(row)

    def where(self, index: int) -> str:
        """Where the user finds row ``index``."""
        if self.lines is None:
            return f"{self.source} row {index} (counted from 0)"
        return f"{self.source} line {self.lines[index]}"


def read_rows(path: str, *, split: str | None = None) -> Rows:
    """Read a JSON file of this machine (.json, .jsonl, either with .gz), or a hub set (``owner/name[:config]``).

    ``split`` belongs to hub sets ("train" where None); a file is one split.
    """
    if not _looks_local(path):
        return _read_hub(path, split or "train")
    if split not in (None, "train"):
        raise DataError(
            given=f"split {split!r} of {path}",
            rule="a file is one split",
            remedy="leave split out, or name another file",
        )
    return _read_file(path)


def _looks_local(path: str) -> bool:
    return (
        path.lower().endswith(_LOCAL_ENDINGS)
        or path.startswith(("/", "./", "../", "~"))
        or os.path.exists(path)  # unlike Path's, it takes impossible names for missing ones
        or not path
    )


def _read_file(path: str) -> Rows:
    data = _bytes(path)
    items: list[Row] = []
    lines: list[int] = []
    for line, value in _values(path, data):
        if not isinstance(value, dict):
            raise DataError(
                given=f"{path} line {line} holds {_kind(value)}, not an object",
                rule="every row is one JSON object: {column: value, ...}",
                remedy=f"correct or delete line {line}",
            )
        items.append(value)
        lines.append(line)
    if not items:
        raise DataError(given=f"{path} has no rows", rule="a data file has at least one row", remedy="fill the file")
    columns = dict.fromkeys(name for row in items for name, value in row.items() if value is not None)
    return Rows(source=path, columns=tuple(columns), items=items, lines=lines)


def _bytes(path: str) -> bytes:
    """The content of the file, decompressed."""
    file = Path(os.path.expanduser(path))  # unlike Path's, it lets unknown users be
    if not os.path.exists(file):
        raise _missing(path, file)
    if not file.is_file() or not file.name.lower().endswith(_READABLE):
        kind = "is a folder" if file.is_dir() else "is not a JSON file"
        raise DataError(
            given=f"{path} {kind}",
            rule=f"a data file of this machine ends in one of: {', '.join(_READABLE)}",
            remedy=_file_remedy(file),
        )
    try:
        content = file.read_bytes()
        return gzip.decompress(content) if file.name.lower().endswith(".gz") else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            given=f"{path} cannot be read: {error}",
            rule="a data file must be readable, and whole if it is compressed",
            remedy="check the file's permissions, or fetch it again",
        ) from error


def _missing(path: str, file: Path) -> DataError:
    try:
        near = get_close_matches(file.name, os.listdir(file.parent), n=3, cutoff=0.5)
        remedy = f"did you mean {' or '.join(near)}?" if near else f"{file.parent} has no file of a similar name"
    except OSError:
        remedy = f"there is no folder {file.parent} that can be read; correct the path"
    return DataError(given=f"{path} does not exist", rule="the data is a file or a hub name", remedy=remedy)


def _file_remedy(file: Path) -> str:
    if not file.is_dir():
        return "convert it to .jsonl, one JSON object on each line"
    inside = sorted(entry.name for entry in file.iterdir() if entry.name.lower().endswith(_READABLE))
    return f"name one file in it: {', '.join(inside[:5])}" if inside else "name a file; this folder has no JSON file"


def _values(path: str, data: bytes) -> Iterator[tuple[int, object]]:
    """Every JSON value with its line: those of one array, or one on each line."""
    plain = path.lower().removesuffix(".gz")
    is_array = plain.endswith(".json") and data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["
    return _array_values(path, data) if is_array else _line_values(path, data)


def _line_values(path: str, data: bytes) -> Iterator[tuple[int, object]]:
    for line, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not raw.strip():
            continue
        text = _decoded(path, raw, line)
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise _broken(path, line, f"{error.msg}, column {error.colno}") from error
        except (ValueError, RecursionError) as error:
            raise _broken(path, line, str(error)) from error
        yield line, _encodable(path, line, text, value)


def _array_values(path: str, data: bytes) -> Iterator[tuple[int, object]]:
    text = _decoded(path, data.removeprefix(b"\xef\xbb\xbf"), 1)
    line, counted = 1, 0
    try:
        for start, end, value in _elements(text):
            line += text.count("\n", counted, start)
            counted = start
            yield line, _encodable(path, line, text[start:end], value)
    except json.JSONDecodeError as error:
        raise _broken(path, error.lineno, f"{error.msg}, column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise _broken(path, line, str(error)) from error


def _elements(text: str) -> Iterator[tuple[int, int, object]]:
    """Start, end and value of each element of the array that the text is; JSONDecodeError says where it is not one."""
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


def _decoded(path: str, raw: bytes, line: int) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line += raw.count(b"\n", 0, error.start)
        raise DataError(
            given=f"{path} line {line} is not UTF-8: {error.reason} (byte 0x{raw[error.start]:02x})",
            rule="data files are UTF-8 text",
            remedy="save the file as UTF-8",
        ) from error


def _encodable(path: str, line: int, text: str, value: object) -> object:
    r"""The value, unless it has half of a surrogate pair (``"\ud83d"``), which no tokenizer can take."""
    if "\\ud" not in text and "\\uD" not in text:
        return value
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise _broken(path, line, f"{half} is half of a surrogate pair, not a character") from error
    return value


def _broken(path: str, line: int, reason: str) -> DataError:
    return DataError(
        given=f"{path} line {line} is not valid JSON: {reason}",
        rule="a .jsonl file has one JSON object on each line; a .json file may also be one array of objects",
        remedy=f"correct or delete line {line}",
    )


def _kind(value: object) -> str:
    names = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _read_hub(path: str, split: str) -> Rows:
    """A hub set; its rows stay in the memory-mapped cache of `datasets`."""
    name, _, config = path.partition(":")
    try:
        with _quiet():
            found = datasets.load_dataset(name, config or None, split=split)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            given=f"{path} (split {split!r}) is no file here, and as a hub name it fails: {error}",
            rule="the data is a file of this machine, or a hub set that can be reached: owner/name[:config]",
            remedy="check the name, the split and the network; for a file, give its path (./name.jsonl)",
        ) from error
    if len(found) == 0:
        raise DataError(
            given=f"{path} has no rows", rule="a data set has at least one row", remedy="name another split"
        )
    return Rows(source=path, columns=tuple(found.column_names), items=found, lines=None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep progress bars and retry notices off stderr, and put everything back afterwards."""
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    # An environment variable outranks the switch, and touching the switch then warns.
    switchable = datasets.config.HF_DATASETS_DISABLE_PROGRESS_BARS is None
    hide = switchable and not datasets.are_progress_bars_disabled()
    if hide:
        datasets.disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if hide:
            datasets.enable_progress_bars()


def _without_nulls(row: Row) -> Row:
    return {name: _pruned(value) for name, value in row.items() if value is not None}


def _pruned(value: object) -> object:
    """Arrow gives every struct all keys of its column: keys that a row never had come back as None."""
    if isinstance(value, dict):
        return {name: _pruned(entry) for name, entry in value.items() if entry is not None}
    return [_pruned(entry) for entry in value] if isinstance(value, list) else value
