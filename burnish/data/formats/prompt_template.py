"""Text of prompts from several columns of a row: ``"{text}\\nIt must pass this test:\\n{test_list[0]}"``.

Some data sets describe a task in several columns: MBPP's text does not tell the name of the function that its tests
call. The prompt is the only part of a row that changes; reference and other columns go to rewards as they are.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterator
from dataclasses import dataclass, replace

from burnish.data.formats.fields import listed
from burnish.data.formats.format import Convert
from burnish.data.formats.media import with_images
from burnish.data.records import AnyExample, Message, Task
from burnish.data.row import Row
from burnish.errors import DataError


def checked_template(template: str) -> str:
    """The template.

    Raises:
        ValueError: it names no column, has an unmatched brace, or has more than names and positions within braces.
    """
    fields = list(_fields(template))
    if not fields:
        raise ValueError("a prompt template has at least one column in braces, such as {text}")
    return template


def _fields(template: str) -> Iterator[tuple[str, tuple[int | str, ...]]]:
    """Column and positions within it, of each field."""
    for _, field, spec, conversion in string.Formatter().parse(template):
        if field is None:
            continue
        column, *rest = field.split("[")
        if spec or conversion or not column.isidentifier() or not all(part.endswith("]") for part in rest):
            raise ValueError(
                f"{{{field}}} is not a column, such as {{text}}, or an entry of one, such as {{test_list[0]}}; braces "
                "that stay in the text are doubled: {{ and }}"
            )
        keys = (part[:-1] for part in rest)
        yield column, tuple(int(key) if key.isdigit() else key for key in keys)


@dataclass(frozen=True, slots=True)
class Templated:
    """Conversion of rows to tasks whose prompt is the template's text: the plain prompt, or the last user message.

    Images of that message go to the marks of the text, or before it.
    """

    template: str
    convert: Convert

    def __call__(self, row: Row) -> AnyExample:
        example = self.convert(row)
        if not isinstance(example, Task):
            raise DataError(
                given=f"prompt_template, and a row that is a {type(example).__name__.lower()}",
                rule="a template writes the prompt of a task: a prompt and what rewards need",
                remedy="remove prompt_template, or name format=task",
            )
        text = filled(self.template, row)
        if isinstance(example.prompt, str):
            return replace(example, prompt=text)
        *before, last = example.prompt
        if last.role != "user":
            raise DataError(
                given=f"prompt_template, and a prompt that ends with a message of the role {last.role}",
                rule="a template writes a plain prompt or the last message of the user",
                remedy="remove prompt_template, or the message",
            )
        written = with_images((Message("user", text),), last.images)
        return replace(example, prompt=(*before, *written))


def filled(template: str, row: Row) -> str:
    """The text of a template for a row. Lists are written one entry a line, objects as JSON.

    Example: ``filled("{a}: {b[0]}", {"a": "x", "b": ["y"]}) == "x: y"``.

    Raises:
        DataError: the row lacks a column or an entry.
    """
    parts, fields = [], _fields(template)
    for literal, field, _, _ in string.Formatter().parse(template):
        parts.append(literal)
        if field is not None:
            column, keys = next(fields)
            parts.append(_text(_entry(row, column, keys)))
    return "".join(parts)


def _entry(row: Row, column: str, keys: tuple[int | str, ...]) -> object:
    value = row.get(column)
    if value is None:
        raise DataError(
            given=f"prompt_template names {column}, and the row has no such column",
            rule="a template's columns are in every row",
            remedy=f"correct the name; the row has {', '.join(row)}",
        )
    for key in keys:
        try:
            value = listed(value, column)[key] if isinstance(key, int) else value[key]  # type: ignore[index]
        except (KeyError, IndexError, TypeError) as error:
            raise DataError(
                given=f"prompt_template names entry {key} of {column}, which this row lacks",
                rule="the entries of a template are in every row",
                remedy="correct the template, or the row",
            ) from error
    return value


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(map(_text, value))
    return json.dumps(value, ensure_ascii=False)
