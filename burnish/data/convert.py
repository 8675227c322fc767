"""Conversion of rows of any format to canonical JSON lines: `messages` for conversations, plain columns for others.

Uses `mixture`. Writes the examples that training would tokenize; reading the written file gives the same examples.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from burnish.data.mixture import Data
from burnish.data.reading.content import new_file
from burnish.data.records import (
    AnyExample,
    Completion,
    Conversation,
    Document,
    Labelled,
    Message,
    Ranked,
    Stepped,
    Task,
    TextOrMessages,
)
from burnish.errors import DataError

_PREFERENCE = (1.0, 0.0)
_MAX_PLACES = 5
"""Rows named in a message; the others are counted."""


def canonical(example: AnyExample) -> dict[str, object]:
    """Canonical row of an example. Example: ``canonical(Completion("a", "b"))`` has prompt and completion."""
    if isinstance(example, Conversation):
        return {"messages": _to_json(example.messages), **_tools_column(example.tools)}
    if isinstance(example, Completion):
        return {"prompt": example.prompt, "completion": example.completion}
    if isinstance(example, Document):
        return {"text": example.text}
    if isinstance(example, Ranked):
        return {"prompt": _to_json(example.prompt), **_ranked_columns(example), **_tools_column(example.tools)}
    if isinstance(example, Labelled):
        columns = {"prompt": _to_json(example.prompt), "completion": _to_json(example.response), "label": example.label}
        return {**columns, **_tools_column(example.tools)}
    if isinstance(example, Stepped):
        steps = {"completions": list(example.steps), "labels": list(example.labels)}
        return {"prompt": _to_json(example.prompt), **steps, **_tools_column(example.tools)}
    assert isinstance(example, Task), "rows with several scores occur only where their columns are named"
    columns = {"prompt": _to_json(example.prompt), "reference": example.reference, "extra": dict(example.extra)}
    return {**columns, **_tools_column(example.tools)}


def _ranked_columns(example: Ranked) -> dict[str, object]:
    responses = [_to_json(response) for response in example.responses]
    if example.scores == _PREFERENCE:
        return {"chosen": responses[0], "rejected": responses[1]}
    return {"responses": responses, "scores": list(example.scores)}


def _to_json(content: TextOrMessages) -> object:
    return content if isinstance(content, str) else [_message(message) for message in content]


def _message(message: Message) -> dict[str, object]:
    mapping = message.as_mapping()
    if message.role == "assistant" and not message.trained:
        return {**mapping, "weight": 0}
    return mapping if message.weight == 1 else {**mapping, "weight": message.weight}


def _tools_column(tools: tuple[Mapping[str, object], ...]) -> dict[str, object]:
    return {"tools": [dict(tool) for tool in tools]} if tools else {}


@dataclass(frozen=True, slots=True)
class Conversion:
    """Result of a conversion."""

    num_rows: int
    """Rows written."""
    unusable: tuple[str, ...]
    """Rows left out, with file, line and reason."""


def write_canonical(data: Data, output: Path, max_invalid_fraction: float = 0.0) -> Conversion:
    """Writes all rows as canonical JSON lines, atomically; an existing file is never changed.

    ``max_invalid_fraction`` is the fraction of the rows that may be unusable and are then left out.
    """
    if output.exists():
        raise DataError(
            given=f"{output} exists", rule="converting never overwrites a file", remedy="delete it, or name another"
        )
    try:
        with new_file(output) as file:
            unusable = _write(data, file)
            if len(unusable) > max_invalid_fraction * len(data.rows):
                raise _unusable(data, unusable)
    except OSError as error:
        raise DataError(
            given=f"{output} cannot be written: {error.strerror}",
            rule="the output is a file in a folder that can be written",
            remedy="name another output",
        ) from error
    places = (f"{data.rows.where(index)}: {error.given}" for index, error in unusable)
    return Conversion(len(data.rows) - len(unusable), tuple(places))


def _write(data: Data, file: BinaryIO) -> list[tuple[int, DataError]]:
    """Writes the usable rows, and returns the unusable ones with their errors."""
    unusable: list[tuple[int, DataError]] = []
    for index in range(len(data.rows)):
        try:
            row = canonical(data.format.convert(data.rows[index]))
        except DataError as error:
            unusable.append((index, error))
            continue
        try:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        except (TypeError, ValueError) as error:
            fault = DataError(
                f"a value cannot be written as JSON: {error}", "JSON has no such value", "name its column"
            )
            unusable.append((index, fault))
    return unusable


def _unusable(data: Data, faults: list[tuple[int, DataError]]) -> DataError:
    messages = [f"{data.rows.where(index)}: {error.given}" for index, error in faults[:_MAX_PLACES]]
    share = len(faults) / len(data.rows)
    return DataError(
        given="\n  ".join(messages) + f"\n  ... {len(faults)} of {len(data.rows)} rows cannot be used",
        rule=faults[0][1].rule,
        remedy=f"{faults[0][1].remedy}; or leave them out: max_invalid_fraction={math.ceil(share * 1000) / 1000:g}",
    )
