"""Rows of any format, written as canonical JSON lines: `messages` for conversations, the plainest columns for others.

Stands beside `prepare`, over `read` and `formats`: what training would read is written down instead of being tokenised.
Reading the written file gives the same examples.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from burnish.data.formats import (
    AnyExample,
    Completion,
    Conversation,
    Document,
    Format,
    Labelled,
    Message,
    Ranked,
    recognise,
)
from burnish.data.records import Said
from burnish.data.rows import Rows
from burnish.errors import DataError

_PREFERENCE = (1.0, 0.0)


def canonical(example: AnyExample) -> dict[str, object]:
    """The row that means this example. Example: ``canonical(Completion("a", "b"))`` has prompt and completion."""
    if isinstance(example, Conversation):
        return {"messages": _said(example.messages), **_tools(example.tools)}
    if isinstance(example, Completion):
        return {"prompt": example.prompt, "completion": example.completion}
    if isinstance(example, Document):
        return {"text": example.text}
    if isinstance(example, Ranked):
        return {"prompt": _said(example.prompt), **_ranked(example), **_tools(example.tools)}
    if isinstance(example, Labelled):
        said = {"prompt": _said(example.prompt), "completion": _said(example.response), "label": example.label}
        return {**said, **_tools(example.tools)}
    return {"prompt": _said(example.prompt), "reference": example.reference, "extra": dict(example.extra)}


def _ranked(example: Ranked) -> dict[str, object]:
    responses = [_said(response) for response in example.responses]
    if example.scores == _PREFERENCE:
        return {"chosen": responses[0], "rejected": responses[1]}
    return {"responses": responses, "scores": list(example.scores)}


def _said(said: Said) -> object:
    return said if isinstance(said, str) else [_message(message) for message in said]


def _message(message: Message) -> dict[str, object]:
    context = message.role == "assistant" and not message.trained
    return {**message.as_mapping(), "weight": 0} if context else message.as_mapping()


def _tools(tools: tuple[Mapping[str, object], ...]) -> dict[str, object]:
    return {"tools": [dict(tool) for tool in tools]} if tools else {}


def write_canonical(rows: Rows, output: Path, format: str | None = None) -> tuple[str, int]:
    """Writes all rows; gives the name of their format and their number. The file appears when it is whole."""
    if output.exists():
        raise DataError(
            given=f"{output} exists", rule="converting never overwrites a file", remedy="delete it, or name another"
        )
    chosen = recognise(rows.columns, format, stage=None)
    part = output.with_name(f"{output.name}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            for index in range(len(rows)):
                file.write(json.dumps(_converted(rows, index, chosen), ensure_ascii=False) + "\n")
        os.replace(part, output)
    except OSError as error:
        raise DataError(
            given=f"{output} cannot be written: {error.strerror}",
            rule="the output is a file in a folder that exists and can be written",
            remedy="name another output",
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return chosen.name, len(rows)


def _converted(rows: Rows, index: int, chosen: Format) -> dict[str, object]:
    try:
        return canonical(chosen.convert(rows[index]))
    except DataError as error:
        raise DataError(f"{rows.where(index)}: {error.given}", error.rule, error.remedy) from error
