"""Cases, and the place where one is tried: files, tiny models, commands, and names that an older version calls
otherwise."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import pkgutil
import runpy
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .models import write_model

Row = Mapping[str, Any]
Words = Sequence[str]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    text: str
    """Output and messages, with single spaces instead of line breaks."""

    def refused(self, *parts: str) -> None:
        """Asserts a message for a user's mistake that has all these parts."""
        assert self.status == 2, f"status {self.status}: {self.text[-2000:]}"
        self.says(*parts)

    def succeeded(self, *parts: str) -> None:
        """Asserts that it did what was asked, with all these parts in what it says."""
        assert self.status == 0, f"status {self.status}: {self.text[-2000:]}"
        self.says(*parts)

    def says(self, *parts: str) -> None:
        for part in parts:
            assert part in self.text, f"no {part!r} in: {self.text[-2000:]}"


@dataclass(frozen=True)
class Trial:
    """The place of a case."""

    folder: Path
    """Empty; commands run in it."""
    models: Path
    """Folder of models, which cases share and do not change."""
    translate: Callable[[Words], Words] = field(default=lambda words: words)
    """Words of a command as this version calls them."""

    def write(self, name: str, *rows: Row | str) -> str:
        """Writes rows as JSON lines, or text as it is; returns the path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
        path.write_text(text, encoding="utf-8")
        return str(path)

    def model(self, name: str) -> str:
        """Folder of a tiny model with random weights, see `models.MODELS`."""
        return str(write_model(self.models, name))

    def burnish(self, *words: str) -> Ended:
        """Runs the command ``burnish`` with these words."""
        output, status = io.StringIO(), 0
        before, arguments = Path.cwd(), sys.argv
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            os.chdir(self.folder)
            sys.argv = ["burnish", *self.translate(words)]
            try:
                runpy.run_module("burnish", run_name="__main__")
            except SystemExit as ended:
                status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            finally:
                sys.argv = arguments
                os.chdir(before)
        return Ended(status, " ".join(output.getvalue().split()))

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Lines of a JSON file in the folder."""
        return [json.loads(line) for line in (self.folder / name).read_text(encoding="utf-8").splitlines()]

    def named(self, name: str, *modules: str) -> Any:
        """An object of the package: from the first of the modules that exists and has it, under its name there.

        Args:
            name: name of the object.
            modules: modules in which it is or was, ``burnish.rewards.exact``; ``burnish.tasks.closed:Older`` if it had
                another name there.
        """
        for written in modules:
            module, _, older = written.partition(":")
            try:
                found = importlib.import_module(module)
            except ImportError:
                continue
            if hasattr(found, older or name):
                return getattr(found, older or name)
        raise AttributeError(f"no {name} in {', '.join(modules)}")


CASES: dict[str, Callable[[Trial], None]] = {}
"""Name → case. Names begin with the kind, such as ``A-01-…`` or ``audit-04-…``."""


def case(name: str) -> Callable[[Callable[[Trial], None]], Callable[[Trial], None]]:
    """Registers a case."""

    def registered(function: Callable[[Trial], None]) -> Callable[[Trial], None]:
        assert name not in CASES, f"two cases are called {name}"
        CASES[name] = function
        return function

    return registered


def load_cases() -> Mapping[str, Callable[[Trial], None]]:
    """All cases of the modules beside this one."""
    package = __package__ or ""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name.startswith("kind_"):
            importlib.import_module(f"{package}.{module.name}")
    return dict(sorted(CASES.items()))
