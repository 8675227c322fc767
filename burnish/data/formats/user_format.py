"""A user's own format: a Python function of a row, ``my_format.py:convert``, which gives a row of a known format.

The file's text is part of the format: workers run the same text, and a cache of what it made ends when it changes.
(What the file imports is not looked at.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from burnish.config.user_code import UserCode
from burnish.data.formats.format import Format
from burnish.data.records import AnyExample
from burnish.data.row import Row
from burnish.errors import DataError

Recognise = Callable[[tuple[str, ...]], Format]
"""The known format of some columns."""


def user_format(name: str, recognise: Recognise) -> Format:
    """The format that a function makes. The file is read and run now, so mistakes in it show at once."""
    code = UserCode.read(name, "a format", DataError)
    convert = UserConvert(code, recognise)
    return Format(name, (), convert, ("sft", "prefer", "reward", "rl"), documents=True, identity=code.identity)


@dataclass(frozen=True, slots=True)
class UserConvert:
    """Calls the function, and converts the row that it gives."""

    code: UserCode
    recognise: Recognise

    def __call__(self, row: Row) -> AnyExample:
        given = _called(self.code, dict(row))
        columns = tuple(name for name, value in given.items() if value is not None)
        return self.recognise(columns).convert(given)


def _called(code: UserCode, row: dict[str, object]) -> Row:
    name = f"{code.path}:{code.name}"
    try:
        given = code.load()(row)
    except Exception as error:
        raise DataError(
            given=f"{name} raised {type(error).__name__}: {error}{code.where(error)}",
            rule="the function takes any row of the data",
            remedy="correct the function, or the row",
        ) from error
    if not isinstance(given, dict):
        raise DataError(
            given=f"{name} gave {type(given).__name__}",
            rule="the function gives a row of a known format, such as {'question': ..., 'answer': ...}",
            remedy="let it return such a dictionary",
        )
    return given
