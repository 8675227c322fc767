"""Checked values of columns: text, numbers, JSON."""

from __future__ import annotations

import json

from burnish.data.formats.meanings import look_alike
from burnish.data.row import Row
from burnish.errors import DataError


def kind(value: object) -> str:
    """Names the type of a value for error messages."""
    names = {str: "text", bool: "true or false", list: "a list", dict: "an object", int: "a number", float: "a number"}
    return "missing" if value is None else names.get(type(value), f"a {type(value).__name__}")


def text(row: Row, column: str) -> str:
    """Returns the text of a column."""
    value = row.get(column)
    if isinstance(value, str):
        return value
    alike = look_alike(column, [name for name, other in row.items() if isinstance(other, str)])
    if value is None and alike is not None:
        raise DataError(
            given=f"{column} is missing; {alike} looks like it",
            rule=f"{column} is text",
            remedy=f"write {alike} as {column}, or for all rows columns={{{column}: {alike}}}",
        )
    raise DataError(
        given=f"{column} is {kind(value)}", rule=f"{column} is text", remedy=f"give the row a text as {column}"
    )


def optional_text(row: Row, column: str) -> str:
    """Returns the text of a column; "" if the row has none."""
    return text(row, column) if row.get(column) is not None else ""


def parsed(value: str, where: str) -> object:
    """Parses JSON text, whose texts can be encoded."""
    try:
        found: object = json.loads(value)
        if "\\ud" in value or "\\uD" in value:
            json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise half_surrogate(error, f"{where} has ") from error
    except json.JSONDecodeError as error:
        raise DataError(
            given=f"{where} is text that is not JSON: {error}", rule="it is JSON", remedy="correct the text"
        ) from error
    return found


def half_surrogate(error: UnicodeEncodeError, where: str = "the row has ") -> DataError:
    """Error for text with half of a surrogate pair, at which its encoding failed."""
    half = f"\\u{ord(error.object[error.start]):04x}"
    return DataError(
        given=f"{where}{half}, half of a surrogate pair, which is no character",
        rule="text can be written as UTF-8; no tokenizer takes half of a pair",
        remedy="correct the text, or delete the row",
    )


def listed(value: object, column: str) -> list[object]:
    """Returns a list, given as such or as JSON text (as in CSV)."""
    entries = parsed(value, column) if isinstance(value, str) and value.lstrip().startswith("[") else value
    if isinstance(entries, list):
        return entries
    raise DataError(
        given=f"{column} is {kind(entries)}", rule=f"{column} is a list", remedy=f"write {column} as a list: [...]"
    )


def truth(value: object, column: str) -> bool:
    """Returns a boolean, given as such, as 1 or 0, or as text (as in CSV)."""
    words = {"true": True, "1": True, "false": False, "0": False}
    word = str(value).lower() if isinstance(value, str | bool | int) else ""
    if word in words:
        return words[word]
    raise DataError(
        given=f"{column} is {value!r}" if isinstance(value, str | int | float) else f"{column} is {kind(value)}",
        rule=f"{column} is true or false (1 or 0)",
        remedy=f"write {column} in one of these ways",
    )


def number(value: object, where: str) -> float:
    """Returns a number; raises DataError for NaN and other types."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value:
        return float(value)
    raise DataError(given=f"{where} is {value!r}", rule="scores and ranks are numbers", remedy="correct the row")
