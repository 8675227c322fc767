"""Reading what a run has written, also while it still writes: a last line that is not whole is left out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file of lines, in order; none if there is no such file.

    A line that is no JSON object is skipped: a kill may leave half a line, and whoever reads here only watches.
    """
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            value = _parse(line)
            if isinstance(value, dict):
                yield value


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that is a file; empty if there is none."""
    value = _parse(path.read_text(encoding="utf-8", errors="replace")) if path.exists() else None
    return value if isinstance(value, dict) else {}


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
