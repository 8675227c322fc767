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

from burnish.config.live_code import MEMORY, LiveObject, live_object
from burnish.errors import RecipeError, UserError

_MAX_TEXT = 120
"""Limit of a quoted line, characters."""


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
    live: LiveObject | None = None
    """The object itself, if Python code gave it; None: the file is run."""

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
        if (live := live_object(written)) is not None:
            return cls(path, live.source, name, kind, error, live)
        if path.startswith(MEMORY):
            raise error(
                given=f"{written}, which was {kind} in the memory of a Python process",
                rule=f"{kind} of one's own is in a file, or given by the Python code that starts the run",
                remedy="start the run from Python again, or put the code into a file and name file.py:name",
            )
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
        """The object of that name in the file, or the one that Python code gave."""
        if self.live is not None:
            return self.live.value
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
        """The line that raised, with its text; "" if the error came from elsewhere.

        Example: `` (my_file.py line 3: return float(row["text"]))``.
        """
        file = self.path if self.live is None else self.live.file
        number, trace = None, error.__traceback__
        while trace is not None:
            number = trace.tb_lineno if trace.tb_frame.f_code.co_filename == file else number
            trace = trace.tb_next
        if isinstance(error, SyntaxError) and error.filename == file:
            number = error.lineno
        if number is None:
            return ""
        lines, first = self.source.split("\n"), 1 if self.live is None else self.live.first_line
        text = lines[number - first].strip() if 0 <= number - first < len(lines) else ""
        shown = text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 1]}…"
        place = file if self.path.startswith(MEMORY) else self.path
        return f" ({place} line {number}{f': {shown}' if shown else ''})"

    def raised(self, error: BaseException) -> str:
        """What the code raised, and where: class and message of the error, and the line.

        Example: ``KeyError: 'answer' (my_file.py line 3: return {"text": row["answer"]})``.
        """
        message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return message + self.where(error)


@lru_cache(maxsize=16)
def _module(path: str, source: str) -> ModuleType:
    """Runs the file as a module. While it runs, it can import from its folder."""
    module = ModuleType(f"burnish_own_{hashlib.sha256(source.encode()).hexdigest()[:16]}")
    module.__file__ = path
    sys.modules[module.__name__] = module  # dataclasses look their module up
    sys.path.insert(0, os.path.dirname(os.path.abspath(os.path.expanduser(path))))
    _running.append(path)
    try:
        exec(compile(source, path, "exec"), vars(module))
    finally:
        sys.path.pop(0)
        _running.pop()
    return module


_running: list[str] = []
"""Paths of user files that are being run as modules."""


def refuse_inside_user_code() -> None:
    """Refuses to start a run while a user's file is run for one of its functions: it would start itself again.

    Raises:
        RecipeError: a file is being run.
    """
    if _running:
        raise RecipeError(
            given=f"{_running[-1]} starts a run when it is imported",
            rule="a file with a format, a loss or a reward is run as a module, to get that function",
            remedy='put the call that starts the run below `if __name__ == "__main__":`',
        )
