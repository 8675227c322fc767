"""Reads the JSON files of a run, also while it still writes; an incomplete last line is skipped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """JSON objects of a file of lines, in order; none if the file does not exist.

    A line that is not a JSON object is skipped, since a kill may leave an incomplete line.
    """
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            value = _parse(line)
            if isinstance(value, dict):
                yield value


def read_object(path: Path) -> dict[str, Any]:
    """JSON object of a file; empty if there is none."""
    value = _parse(path.read_text(encoding="utf-8", errors="replace")) if path.exists() else None
    return value if isinstance(value, dict) else {}


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
