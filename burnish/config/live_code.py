"""Functions, classes and callable objects that Python code gives where a recipe has ``file.py:name``.

The recipe holds a name, and this module remembers the object under it, so settings stay plain data. A function at the
top level of a file has the name that a recipe would have (``my.py:reward``) and the identity of that file, and the
recipe of the run can be run again from the command line. Any other object is named ``<memory>/…``: its identity is its
source text, or, if it captures variables or has no source text, one of its own, so that its run cannot be resumed.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.errors import RecipeError

MEMORY = "<memory>/"
"""Beginning of the names of objects that are in no file."""


@dataclass(frozen=True, eq=False, slots=True)
class LiveObject:
    """An object of this process. Another process gets a copy, by import or by value."""

    written: str
    """Its name in a recipe, ``path.py:name``."""
    value: Any
    """The function, class or callable object."""
    source: str
    """Text that determines its identity; it begins with the lines of its code."""
    first_line: int
    """Number of the first of these lines in `file`."""
    can_resume: bool
    """Whether a later process can tell that it has the same object."""
    file: str
    """File of its code, as it stands in tracebacks; "": unknown."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        import dill  # only objects that travel to another process need it

        try:
            value = dill.dumps(self.value, recurse=True)
        except Exception as error:
            raise RecipeError(
                given=f"{self.written} cannot be copied to a worker process: {type(error).__name__}: {error}",
                rule="formats and rewards run in processes of their own",
                remedy="let it capture nothing but plain values, or put it into a file and name file.py:name",
            ) from error
        own = (self.written, self.source, self.first_line, self.can_resume, self.file)
        return _copied, (list(sys.path), value, *own)


def _copied(path: list[str], value: bytes, *rest: Any) -> LiveObject:
    """The object in another process, which finds the modules that this one finds."""
    import dill

    sys.path += [entry for entry in path if entry not in sys.path]
    written, *others = rest
    return LiveObject(written, dill.loads(value), *others)


_objects: dict[str, LiveObject] = {}


def live_object(written: str) -> LiveObject | None:
    """The object of a name; None: it was given by no Python code of this process."""
    return _objects.get(written)


def named(value: Any) -> str:
    """The name under which a recipe has a function, class or callable object of this process."""
    name = getattr(value, "__name__", type(value).__name__).strip("<>")
    file = _file_of(value)
    if file is not None:
        written, source, can_resume = f"{_short(file)}:{name}", file.read_text(encoding="utf-8"), True
    else:
        text = _source_text(value)
        can_resume = text is not None
        source = text or uuid.uuid4().hex
        written = f"{MEMORY}{name}-{hashlib.sha256(source.encode()).hexdigest()[:12]}.py:{name}"
    code = getattr(value, "__code__", None)
    first_line = 1 if file is not None or code is None else code.co_firstlineno
    place = "" if code is None else code.co_filename
    _objects[written] = LiveObject(written, value, source, first_line, can_resume, place)
    return written


def with_names(value: Any) -> Any:
    """The settings with a name in place of each function, class and callable object, text in place of each path and
    type of torch, and Python's numbers in place of numpy's, at any depth."""
    if isinstance(value, Mapping):
        return {key: with_names(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [with_names(entry) for entry in value]
    if isinstance(value, Path):
        return str(value)
    if type(value).__module__ == "numpy" and callable(getattr(value, "item", None)):
        return value.item()
    if type(value).__module__ == "torch" and type(value).__name__ == "dtype":
        return str(value).removeprefix("torch.")
    return named(value) if callable(value) else value


def unresumable(names: list[str]) -> list[str]:
    """Those of the names whose objects a later process cannot recognize."""
    return [name for name in names if (live := live_object(name)) is not None and not live.can_resume]


def _file_of(value: Any) -> Path | None:
    """File in whose top level the object is found by its name; None: there is none."""
    module, name = sys.modules.get(getattr(value, "__module__", "")), getattr(value, "__qualname__", "")
    file = getattr(module, "__file__", None)
    if file is None or not file.endswith(".py") or vars(module).get(name) is not value:
        return None
    return Path(file)


def _short(file: Path) -> Path:
    """The path relative to the current folder if the file lies in it."""
    absolute = Path(os.path.abspath(file))
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute


def _source_text(value: Any, seen: tuple[Any, ...] = ()) -> str | None:
    """Text that determines what a function does: its source, and the plain values and functions among the globals that
    it reads. None: it has no source, captures variables, or reads another kind of global."""
    if not inspect.isfunction(value) or value.__closure__ is not None:
        return None
    try:
        text = inspect.getsource(value)
    except (OSError, TypeError):
        return None
    parts = [text]
    for name, used in sorted(inspect.getclosurevars(value).globals.items()):
        part = "" if inspect.ismodule(used) or used in seen else _global_text(used, (*seen, value))
        if part is None:
            return None
        parts.append(f"{name} = {part}")
    return "\n".join(parts) if len(parts) > 1 else text


def _global_text(value: Any, seen: tuple[Any, ...]) -> str | None:
    """Text that determines a global: of a plain value or a container of such, of a function, of an imported class."""
    if isinstance(value, str | int | float | bool | bytes | None):
        return repr(value)
    if isinstance(value, list | tuple | dict):
        entries = [entry for pair in value.items() for entry in pair] if isinstance(value, dict) else value
        texts = [_global_text(entry, seen) for entry in entries]
        return None if None in texts else f"{type(value).__name__}({', '.join(map(str, texts))})"
    if (file := _file_of(value)) is not None and getattr(value, "__module__", "") != "__main__":
        return f"{file}:{value.__qualname__}"
    return _source_text(value, seen)
