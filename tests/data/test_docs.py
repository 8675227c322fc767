"""The rows of docs/data.md convert to the records shown there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from burnish.data.formats.known import FORMATS
from burnish.data.formats.recognize import recognize

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
SECTION = re.compile(r"^### `(\w+)`\n(.*?)(?=^##)", re.MULTILINE | re.DOTALL)
EXAMPLE = re.compile(r"```json\n(.*?)\n```\n```python\n(.*?)\n```", re.DOTALL)
EXAMPLES = [(name, *pair) for name, text in SECTION.findall(PAGE) for pair in EXAMPLE.findall(text)]


@pytest.mark.parametrize(("name", "row", "record"), EXAMPLES)
def test_rows_convert_to_their_records(name: str, row: str, record: str) -> None:
    values = json.loads(row)
    named = name if FORMATS[name].named_only else None
    chosen = recognize(tuple(values), named, stage=None)
    assert chosen.name == name
    assert repr(chosen.convert(values)) == record


def test_every_format_is_shown() -> None:
    assert {name for name, _, _ in EXAMPLES} == set(FORMATS)
