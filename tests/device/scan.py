"""What in burnish/ names a device, or may wait for one, found in the syntax of its files.

A static look: it cannot know what is a tensor. So on the hot path every conversion of something unknown to a number of
the host counts, and `allowed.py` says why each of those that are there may be.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "burnish"
HOT = (
    "train/step.py",
    "train/learner.py",
    "layout.py",
    "microbatch.py",
    "packing.py",
    "streams.py",
    "types.py",
    "losses",
    "optim",
    *(f"model/{name}.py" for name in ("attention", "decoding", "experts", "flex", "gather", "head", "linear")),
    *(
        f"model/{name}.py"
        for name in ("llama4", "noise", "policy", "products", "prefix_cache", "scoring", "segments", "snapshot")
    ),
    "model/value_head.py",
    "model/vision.py",
    *(f"sampling/{name}.py" for name in ("choice", "local", "sequences", "token_history")),
)
"""Files and folders that a training step or the writing of a token goes through."""
WAITING_METHODS = frozenset({"item", "tolist", "cpu", "numpy", "nonzero", "unique", "masked_select"})
"""Of a tensor on a device, each waits for it: it reads numbers, or a shape that depends on them."""
NUMBERS = frozenset({"bool", "int", "float"})

Look = Callable[[ast.AST], str | None]
"""What is found at a node; None: nothing."""


@dataclass(frozen=True, slots=True)
class Place:
    """A function of a file, relative to burnish/; a method as Class.name, what is in none as <module>."""

    file: str
    function: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What stands where."""

    place: Place
    line: int
    what: str


def files(*parts: str) -> list[Path]:
    """Python files of the package, or of these files and folders of it."""
    roots = [PACKAGE / part for part in parts] or [PACKAGE]
    return sorted(path for root in roots for path in ([root] if root.is_file() else root.rglob("*.py")))


def named_devices() -> list[Finding]:
    """Every ``"cuda"`` and every ``.cuda`` in the package, docstrings and annotations aside."""
    return [finding for path in files() for finding in _findings(path, _names_a_device)]


def waits() -> list[Finding]:
    """Everything on the hot path that may wait for the device."""
    return [finding for path in files(*HOT) for finding in _findings(path, _may_wait)]


def findings_in(source: str, what: str = "waits") -> list[str]:
    """What is found in a text, for tests of this file."""
    look = _may_wait if what == "waits" else _names_a_device
    return [finding.what for finding in _walk(ast.parse(source), Place("", "<module>"), look)]


def _findings(path: Path, look: Look) -> Iterator[Finding]:
    place = Place(path.relative_to(PACKAGE).as_posix(), "<module>")
    return _walk(ast.parse(path.read_text(encoding="utf-8")), place, look)


def _walk(node: ast.AST, place: Place, look: Look) -> Iterator[Finding]:
    """The findings below a node, in the function that each stands in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            name = child.name if place.function == "<module>" else f"{place.function}.{child.name}"
            yield from _walk(child, Place(place.file, name), look)
            continue
        if (what := look(child)) is not None:
            yield Finding(place, child.lineno, what)
        yield from _walk(child, place, look)


def _names_a_device(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.split(":")[0] == "cuda":
        return repr(node.value)
    if isinstance(node, ast.Attribute) and node.attr in ("cuda", "is_cuda"):
        return f".{node.attr}"
    return None


def _may_wait(node: ast.AST) -> str | None:
    if not isinstance(node, ast.Call):
        return None
    if isinstance(node.func, ast.Attribute):
        if node.func.attr in WAITING_METHODS:
            return f".{node.func.attr}()"
        if node.func.attr == "to" and any(isinstance(a, ast.Constant) and a.value == "cpu" for a in node.args):
            return '.to("cpu")'
        if node.func.attr == "synchronize":
            return ".synchronize()"
    if isinstance(node.func, ast.Name) and node.func.id in NUMBERS and not all(map(_of_the_host, node.args)):
        return f"{node.func.id}()"
    return None


def _of_the_host(node: ast.AST) -> bool:
    """Certainly no tensor: a constant, a length, the text of a number."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in ("len", "str") or (node.func.id in ("max", "min") and all(map(_of_the_host, node.args)))
    return isinstance(node, ast.Constant | ast.JoinedStr)
