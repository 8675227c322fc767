"""User format: a Python function ``my_format.py:convert`` that converts a row to a row of a known format.

The text of the file is part of the format: workers run the same text, and a change of it invalidates the cache.
(Changes of modules that the file imports do not.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from burnish.config.user_code import UserCode
from burnish.data.formats.format import Format
from burnish.data.records import AnyExample
from burnish.data.row import Row
from burnish.errors import DataError

RecognizeColumns = Callable[[tuple[str, ...]], Format]
"""Returns the known format of columns."""


def user_format(name: str, recognize_columns: RecognizeColumns) -> Format:
    """Builds the format of a user's function. The file is read and run now, so that its errors appear at once."""
    code = UserCode.read(name, "a format", DataError)
    convert = UserConvert(code, recognize_columns)
    return Format(name, (), convert, ("sft", "prefer", "reward", "rl"), documents=True, identity=code.identity)


@dataclass(frozen=True, slots=True)
class UserConvert:
    """Calls the function, and converts the row that it returns."""

    code: UserCode
    recognize_columns: RecognizeColumns

    def __call__(self, row: Row) -> AnyExample:
        result = _call(self.code, dict(row))
        columns = tuple(name for name, value in result.items() if value is not None)
        return self.recognize_columns(columns).convert(result)


def _call(code: UserCode, row: dict[str, object]) -> Row:
    name = f"{code.path}:{code.name}"
    try:
        result = code.load()(row)
    except Exception as error:
        raise DataError(
            given=f"{name} raised {code.raised(error)}",
            rule="the function accepts any row of the data",
            remedy="correct the function, or the row",
        ) from error
    if not isinstance(result, dict):
        raise DataError(
            given=f"{name} returned {type(result).__name__}",
            rule="the function returns a row of a known format, such as {'question': ..., 'answer': ...}",
            remedy="let it return such a dictionary",
        )
    return result
