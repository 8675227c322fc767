"""Any file and any row gives rows and examples, or a DataError; never another exception."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from burnish.data.convert import canonical
from burnish.data.formats.known import FORMATS
from burnish.data.formats.recognize import recognize
from burnish.data.read import read_rows
from burnish.errors import DataError

in_one_folder = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

PIECES = (b"\n", b"\r\n", b'"', b",", b"\t", b"{", b"}", b"[", b"]", b'{"a": 1}', b"a", b" ", b"\xef\xbb\xbf")
files = st.lists(st.sampled_from(PIECES) | st.binary(max_size=3), max_size=12).map(b"".join)

TEXTS = ("", "a", "a b", "[", "[1]", '{"name": 1}', "\n\nHuman: a\n\nAssistant: b", "\n\nAssistant:", "user", "gpt")
KEYS = "role content from value tool_calls function arguments name text type weight train messages prompt"
KINDS = "a.jsonl a.json a.csv a.tsv a.txt a.parquet a.arrow a.jsonl.gz a.jsonl.zst"
words = st.sampled_from(TEXTS)
keys = st.sampled_from(KEYS.split())
values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=8,
)
turns = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "system"])},
    optional={"content": words | values, "tool_calls": values, "weight": values},
)
cells = words | values | st.lists(turns, max_size=4) | st.lists(words, max_size=3)


@pytest.mark.parametrize("name", KINDS.split())
@in_one_folder
@given(data=files)
def test_any_file(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with contextlib.suppress(DataError):
        rows = read_rows(str(tmp_path / name))
        assert len(rows) == len(list(rows)) == len([rows.where(i) for i in range(len(rows))]) > 0


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
def test_any_row(name: str, data: st.DataObject) -> None:
    chosen = FORMATS[name]
    columns = data.draw(st.sampled_from(chosen.dialects)).columns
    optional = {column: cells for column in chosen.takes if column not in columns}
    row = data.draw(st.fixed_dictionaries(dict.fromkeys(columns, cells), optional=optional))
    try:
        example = recognize(tuple(row), name, stage=None).convert(row)
    except DataError:
        return
    canonical_row = json.loads(json.dumps(canonical(example)))
    assert recognize(tuple(canonical_row), stage=None).convert(canonical_row) == example
