"""Rows of any format, written as canonical JSON lines: `messages` for conversations, the plainest columns for the rest.

Stands beside `prepare`, over `read` and `formats`: what training would read is written down instead of being tokenised.
Reading the written file gives the same examples.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from burnish.data.formats import Completion, Example, Format, Message, recognise
from burnish.data.read import Rows
from burnish.errors import DataError


def canonical(example: Example) -> dict[str, object]:
    """The row that means this example. Example: ``canonical(Completion("a", "b"))`` has prompt and completion."""
    if isinstance(example, Completion):
        return {"prompt": example.prompt, "completion": example.completion}
    row: dict[str, object] = {"messages": [_message(message) for message in example.messages]}
    return {**row, "tools": [dict(tool) for tool in example.tools]} if example.tools else row


def _message(message: Message) -> dict[str, object]:
    context = message.role == "assistant" and not message.trained
    return {**message.as_mapping(), "weight": 0} if context else message.as_mapping()


def write_canonical(rows: Rows, output: Path, format: str | None = None) -> tuple[str, int]:
    """Writes all rows; gives the name of their format and their number. The file appears when it is whole."""
    if output.exists():
        raise DataError(
            given=f"{output} exists", rule="converting never overwrites a file", remedy="delete it, or name another"
        )
    chosen = recognise(rows.columns, format)
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
