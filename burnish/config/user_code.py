"""User code in a recipe: ``my_file.py:name``, for formats, losses and rewards.

The file's text determines its identity: other processes run the same text, and its sha256 is part of the identity of a
run or a cache entry. (Files that it imports are not considered.)
"""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from burnish.errors import UserError

_LINE = 160
"""Maximum characters of a line of code in a message."""


def is_user_code(name: str) -> bool:
    """Whether a name has the form ``file.py:name``."""
    return name.rpartition(":")[0].endswith(".py")


@dataclass(frozen=True, slots=True)
class UserCode:
    """A function or class in a user's file. Picklable: another process runs the same text."""

    path: str
    source: str
    """The text of the file."""
    name: str
    kind: str
    """Its kind in messages: a format, a loss."""
    error: type[UserError]
    """Class of the error for unusable code."""

    @classmethod
    def read(cls, written: str, kind: str, error: type[UserError]) -> UserCode:
        """Reads and runs ``file.py:name``, so that mistakes in it show at once."""
        code = cls.unrun(written, kind, error)
        code.load()
        return code

    @classmethod
    def unrun(cls, written: str, kind: str, error: type[UserError]) -> UserCode:
        """Reads ``file.py:name`` without running it, for another process."""
        path, _, name = written.rpartition(":")
        file = Path(os.path.expanduser(path))
        try:
            source = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as cause:
            why = f"cannot be read: {cause}" if file.exists() else "does not exist"
            raise error(
                given=f"{path} {why}",
                rule=f"{kind} of one's own is a readable Python file",
                remedy=f"check the path; the current folder is {Path.cwd()}",
            ) from cause
        return cls(path, source, name, kind, error)

    @property
    def identity(self) -> str:
        """sha256 of the text and the name."""
        return hashlib.sha256(f"{self.name}\n{self.source}".encode()).hexdigest()

    def load(self) -> Any:
        """The object of that name in the file."""
        try:
            names = vars(_module(self.path, self.source))
        except Exception as cause:
            raise self.error(
                given=f"{self.path} cannot be run: {self.raised(cause)}",
                rule=f"{self.kind} of one's own is a Python file that can be imported",
                remedy="correct the file",
            ) from cause
        if not callable(names.get(self.name)):
            functions = [name for name, value in names.items() if callable(value) and not name.startswith("_")]
            raise self.error(
                given=f"{self.path} has no function {self.name!r}",
                rule=f"{self.kind} of one's own is file.py:name",
                remedy=f"name one of its functions: {', '.join(functions) or 'it has none'}",
            )
        return names[self.name]

    def where(self, error: BaseException) -> str:
        """The line of the file that raised, as " (my_file.py line 3)"; "" if the error came from elsewhere."""
        line = self._line(error)
        return f" ({self.path} line {line})" if line else ""

    def raised(self, error: BaseException) -> str:
        """What the code raised, and where: class and message of the error, file, number and text of the line.

        Example: ``KeyError: 'answer' (my_file.py line 3: return {"text": row["answer"]})``.
        """
        message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        line = self._line(error)
        if line is None:
            return message
        text = self.source.split("\n")[line - 1].strip()
        shown = text if len(text) <= _LINE else f"{text[: _LINE - 1]}…"
        return f"{message} ({self.path} line {line}{f': {shown}' if shown else ''})"

    def _line(self, error: BaseException) -> int | None:
        """Number of the innermost line of the file that the error passed; None: the error came from elsewhere."""
        trace, line = error.__traceback__, None
        while trace is not None:
            line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == self.path else line
            trace = trace.tb_next
        return line


@lru_cache(maxsize=16)
def _module(path: str, source: str) -> ModuleType:
    """Runs the file as a module. While it runs, it can import from its folder."""
    module = ModuleType(f"burnish_own_{hashlib.sha256(source.encode()).hexdigest()[:16]}")
    module.__file__ = path
    sys.modules[module.__name__] = module  # dataclasses look their module up
    sys.path.insert(0, os.path.dirname(os.path.abspath(os.path.expanduser(path))))
    try:
        exec(compile(source, path, "exec"), vars(module))
    finally:
        sys.path.pop(0)
    return module
