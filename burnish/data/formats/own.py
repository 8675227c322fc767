"""A user's own format: a Python function of a row, ``my_format.py:convert``, which gives a row of a known format.

The file's text is part of the format: workers run the same text, and a cache of what it made ends when it changes.
(What the file imports is not looked at.)
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

from burnish.data.formats.format import Format
from burnish.data.reading.content import expanded, missing
from burnish.data.records import AnyExample
from burnish.data.rows import Row
from burnish.errors import DataError

Recognise = Callable[[tuple[str, ...]], Format]
"""The known format of some columns."""


def is_own(name: str) -> bool:
    """Whether a format's name is a file and a function in it."""
    return name.rpartition(":")[0].endswith(".py")


def own_format(name: str, recognise: Recognise) -> Format:
    """The format that a function makes. The file is read and run now, so mistakes in it show at once."""
    path, _, function = name.rpartition(":")
    source = _source(path)
    _function(path, source, function)
    convert = OwnConvert(path, source, function, recognise)
    identity = hashlib.sha256(source.encode()).hexdigest()
    return Format(name, (), convert, ("sft", "prefer", "reward", "rl"), documents=True, identity=identity)


@dataclass(frozen=True, slots=True)
class OwnConvert:
    """Calls the function, and converts the row that it gives."""

    path: str
    source: str
    """The text of the file."""
    function: str
    recognise: Recognise

    def __call__(self, row: Row) -> AnyExample:
        given = _called(_function(self.path, self.source, self.function), dict(row), f"{self.path}:{self.function}")
        columns = tuple(name for name, value in given.items() if value is not None)
        return self.recognise(columns).convert(given)


def _called(function: Callable[[dict[str, object]], Any], row: dict[str, object], name: str) -> Row:
    try:
        given = function(row)
    except Exception as error:
        raise DataError(
            given=f"{name} raised {type(error).__name__}: {error}{_place(error, name)}",
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


def _place(error: Exception, name: str) -> str:
    """The line of the user's file that raised."""
    path = name.rpartition(":")[0]
    trace, line = error.__traceback__, None
    while trace is not None:
        line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == path else line
        trace = trace.tb_next
    return f" ({path} line {line})" if line else ""


def _source(path: str) -> str:
    file = expanded(path)
    if not file.is_file():
        raise missing(path)
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            given=f"{path} cannot be read: {error}",
            rule="a format is a readable Python file",
            remedy="correct the file",
        ) from error


def _function(path: str, source: str, name: str) -> Callable[[dict[str, object]], Any]:
    names = vars(_module(path, source))
    if not callable(names.get(name)):
        functions = [each for each, value in names.items() if callable(value) and not each.startswith("_")]
        raise DataError(
            given=f"{path} has no function {name!r}",
            rule="a format is file.py:function",
            remedy=f"its functions: {', '.join(functions) or 'none'}",
        )
    return names[name]


@lru_cache(maxsize=16)
def _module(path: str, source: str) -> ModuleType:
    """The file as a module. Its folder can be imported from while it runs."""
    module = ModuleType(f"burnish_own_{hashlib.sha256(source.encode()).hexdigest()[:16]}")
    module.__file__ = path
    sys.modules[module.__name__] = module  # dataclasses look their module up
    sys.path.insert(0, str(expanded(path).absolute().parent))
    try:
        exec(compile(source, path, "exec"), vars(module))
    except Exception as error:
        raise DataError(
            given=f"{path} cannot be run: {type(error).__name__}: {error}",
            rule="a format is a Python file that can be imported",
            remedy="correct the file",
        ) from error
    finally:
        sys.path.pop(0)
    return module
