"""Format of prompts without a response, with a reference for graders."""

from __future__ import annotations

from burnish.data.formats.comparisons import prompt_of
from burnish.data.formats.fields import kind
from burnish.data.records import Task
from burnish.data.row import Row
from burnish.errors import DataError

_USED = ("prompt", "question", "reference", "extra", "system", "system_prompt")


def task(row: Row) -> Task:
    """Columns prompt or question, and reference (extra, or all other columns, for rewards)."""
    extra = row.get("extra")
    if extra is None:
        extra = {name: value for name, value in row.items() if name not in _USED and value is not None}
    if not isinstance(extra, dict):
        raise DataError(given=f"extra is {kind(extra)}", rule="extra is an object", remedy="correct the row")
    return Task(prompt_of(row), row.get("reference"), extra)
