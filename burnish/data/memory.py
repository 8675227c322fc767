"""Rows in memory, stored as files: what the Python functions of the package do with rows that are given as `data`.

A list of mappings becomes JSON lines, a table (`memory_tables`) a Parquet file, in the cache folder and named after its
content. The recipe has the path, so a run can be repeated from its recipe, and `reading.stored` opens the file. No
library is imported here: an object's own class says whether it is a table.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from burnish.data.reading.content import new_file
from burnish.data.settings import ROWS_IN_MEMORY, STORED_ROWS_FOLDER
from burnish.errors import DataError
from burnish.local_path import cache_folder

KEYS = ("data", "eval_data", "prompts_data")
"""Settings that name rows."""

_TABLES = ("datasets.Dataset", "pandas.DataFrame", "polars.DataFrame", "pyarrow.Table")
"""Library and class of the tables that can be stored."""
_REFUSED: Mapping[str, str] = {
    "datasets.DatasetDict": 'name one of its splits: data["train"]',
    "datasets.IterableDataset": "take rows of it into memory: list(data.take(1000))",
    "datasets.IterableDatasetDict": 'take rows of a split into memory: list(data["train"].take(1000))',
    "polars.LazyFrame": "compute it first: data.collect()",
}
"""Library and class of objects that are no rows in memory -> remedy."""


def with_stored_rows(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a stage or a command, with the path of a file in place of rows in memory.

    Args:
        settings: values by key, which may be dotted; rows are looked for in `KEYS`, also in the group `evaluation`.

    Raises:
        DataError: see `stored`.

    Example: ``with_stored_rows({"data": [{"question": "2+2?", "answer": "4"}]})["data"]`` ends in ``.jsonl``.
    """
    return {key: _stored_below(key, value) for key, value in settings.items()}


def _stored_below(key: str, value: object) -> object:
    if key.rpartition(".")[2] in KEYS:
        return stored(value)
    if key == "evaluation" and isinstance(value, Mapping):
        return {name: _stored_below(name, entry) for name, entry in value.items()}
    return value


def stored(value: object) -> object:
    """Stores rows in memory, if a value of `data` has some.

    Args:
        value: a path, rows (a list of mappings, or a table), a source with rows as its path, or a list of these.

    Returns:
        The value with paths in place of rows; any other value unchanged, also a wrong one, which its settings refuse.

    Raises:
        DataError: a row cannot be stored, or there are none.
    """
    _refuse_other_classes(value)
    if _is_table(value) or _is_rows(value):
        return str(_store(value))
    if _is_mapping(value):
        return {**value, "path": stored(value["path"])} if _holds_rows(value) else value
    if isinstance(value, list | tuple):
        return list(_named(value))
    return value


def _named(entries: Sequence[object]) -> Iterator[object]:
    """Sources of a mixture; each with rows in memory has a name of its own."""
    count = 0
    for entry in entries:
        found = stored(entry)
        if _is_table(entry) or _is_rows(entry):
            found = {"path": found}
        if not _is_mapping(found) or found is entry:
            yield found
            continue
        count += 1
        yield {"name": ROWS_IN_MEMORY if count == 1 else f"{ROWS_IN_MEMORY} {count}", **found}


def _is_rows(value: object) -> TypeGuard[Sequence[Mapping[str, object]]]:
    """Whether a value is a list of rows. Mappings that all have a path are sources of a mixture."""
    if not isinstance(value, list | tuple) or not value:
        return False
    return all(_is_mapping(row) for row in value) and any("path" not in row for row in value)


def _is_mapping(value: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(value, Mapping)


def _holds_rows(source: Mapping[str, object]) -> bool:
    path = source.get("path")
    _refuse_other_classes(path)
    return _is_table(path) or _is_rows(path)


def _is_table(value: object) -> bool:
    return _table_class(value) is not None


def _table_class(value: object) -> str | None:
    """The entry of `_TABLES` of an object; None: it is no table."""
    return next((name for name in _class_names(value) if name in _TABLES), None)


def _class_names(value: object) -> Iterator[str]:
    """Library and name of an object's class, and of its base classes."""
    for base in type(value).__mro__:
        yield f"{base.__module__.partition('.')[0]}.{base.__name__}"


def _refuse_other_classes(value: object) -> None:
    for name in _class_names(value):
        if name in _REFUSED:
            raise DataError(
                given=f"an object of the class {name}",
                rule=f"rows in memory are a list of mappings, or one of: {', '.join(_TABLES)}",
                remedy=_REFUSED[name],
            )


def _store(rows: object) -> Path:
    """The file of these rows; it is written if it is not there."""
    try:
        if (name := _table_class(rows)) is not None:
            from burnish.data.memory_tables import store_table  # pyarrow, which only such an object needs

            return store_table(rows, name.partition(".")[0], _folder())
        assert _is_rows(rows), "rows are a table or a list of mappings"
        return _store_lines(rows)
    except OSError as error:
        raise DataError(
            given=f"rows in memory cannot be stored in {_folder()}: {error.strerror or error}",
            rule="rows in memory become a file of the cache folder, so that the run can be repeated and resumed",
            remedy="set BURNISH_CACHE to a folder that can be written, or free space there",
        ) from error


def _folder() -> Path:
    return (cache_folder() / "data" / STORED_ROWS_FOLDER).absolute()


def _store_lines(rows: Sequence[Mapping[str, object]]) -> Path:
    digest = hashlib.sha256()
    for line in _lines(rows):
        digest.update(line)
    file = _folder() / f"{digest.hexdigest()}.jsonl"
    if not file.is_file():
        with new_file(file) as output:
            for line in _lines(rows):
                output.write(line)
    return file


def _lines(rows: Sequence[Mapping[str, object]]) -> Iterator[bytes]:
    for number, row in enumerate(rows):
        try:
            values = {key: _plain(value, number, str(key)) for key, value in row.items() if _is_key(key, number, "")}
            text = json.dumps(values, ensure_ascii=False)
        except RecursionError as error:
            raise _no_value(number, "a value holds itself, or is nested too deep") from error
        yield text.encode() + b"\n"


def _plain(value: object, row: int, key: str) -> object:
    """Value of JSON for a value in memory; tuples become lists.

    Raises:
        DataError: JSON knows no such value.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        if not value.isascii():
            _require_encodable(value, row, key)
        return value
    if isinstance(value, Mapping):
        return {
            name: _plain(entry, row, f"{key}.{name}") for name, entry in value.items() if _is_key(name, row, f"{key}.")
        }
    if isinstance(value, list | tuple):
        return [_plain(entry, row, f"{key}[{index}]") for index, entry in enumerate(value)]
    raise _no_value(row, f"{key} is of the type {_type_name(value)}")


def _is_key(key: object, row: int, before: str) -> bool:
    """True; raises DataError for a key that is no text."""
    if not isinstance(key, str):
        raise _no_value(row, f"the key {before}{key!r} is of the type {_type_name(key)}")
    _require_encodable(key, row, f"the key {before}{key!a}")
    return True


def _require_encodable(text: str, row: int, key: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise DataError(
            given=f"row {row} of the {ROWS_IN_MEMORY} (counted from 0): {key} has {half}, half of a surrogate pair",
            rule="text can be written as UTF-8; no tokenizer takes half of a pair",
            remedy="correct the text, or leave the row out",
        ) from error


def _type_name(value: object) -> str:
    """Name of a value's class with its module, such as numpy.int64; of a built-in class its name alone."""
    return f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")


def _no_value(row: int, problem: str) -> DataError:
    return DataError(
        given=f"row {row} of the {ROWS_IN_MEMORY} (counted from 0): {problem}",
        rule="rows in memory have the values of JSON: text, numbers, true, false, None, lists, and mappings with text "
        "as keys",
        remedy="convert the value, such as with str(...) or value.item()",
    )
