from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from burnish.data.read import read_rows
from burnish.data.reading import hub
from burnish.errors import DataError

Write = Callable[..., str]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
objects = st.lists(st.dictionaries(st.text(max_size=5), json_values, max_size=4), min_size=1, max_size=6)
in_one_folder = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@in_one_folder
@given(rows=objects, ascii_only=st.booleans(), blanks=st.integers(0, 2))
def test_rows_equal_the_lines(tmp_path: Path, rows: list[dict], ascii_only: bool, blanks: int) -> None:
    file = tmp_path / "any.jsonl"
    lines = [json.dumps(row, ensure_ascii=ascii_only) + "\n" * (1 + blanks) for row in rows]
    file.write_bytes("".join(lines).encode())
    read = read_rows(str(file))
    assert list(read) == rows
    assert [read.where(i) for i in range(len(read))] == [
        f"{file} line {1 + i * (1 + blanks)}" for i in range(len(rows))
    ]


@in_one_folder
@given(rows=objects, indent=st.sampled_from([None, 0, 2]))
def test_an_array_gives_the_same_rows_as_lines(tmp_path: Path, rows: list[dict], indent: int | None) -> None:
    file = tmp_path / "any.json"
    file.write_text(json.dumps(rows, indent=indent), encoding="utf-8")
    assert list(read_rows(str(file))) == rows


def test_an_array_knows_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('\n[\n {"a": 1},\n\n {"a":\n 2}, {"a": 3}\n]\n')
    rows = read_rows(str(file))
    assert rows.lines == [3, 5, 6]


def test_text_stays_text(write: Write) -> None:
    """Values that the JSON loader of datasets changes: dates, and strings of JSON in columns of mixed types."""
    rows = [{"a": "2024-01-01", "b": "42"}, {"a": "2024-01-02", "b": [1]}, {"a": "2024-01-03", "b": "null"}]
    assert list(read_rows(write(*rows))) == rows


def test_compressed_files_and_byte_order_marks(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\r\n\r\n{"a": 2}\r\n'))
    (tmp_path / "b.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\n')
    (tmp_path / "c.json").write_bytes(b'\xef\xbb\xbf [{"a": 1}]')
    compressed = read_rows(str(tmp_path / "a.jsonl.gz"))
    assert (list(compressed), compressed.lines) == ([{"a": 1}, {"a": 2}], [1, 3])
    assert list(read_rows(str(tmp_path / "b.jsonl"))) == list(read_rows(str(tmp_path / "c.json"))) == [{"a": 1}]


def test_columns_are_those_with_a_value(write: Write) -> None:
    assert read_rows(write({"b": None, "c": 1}, {"a": 2, "c": 3})).columns == ("c", "a")


def test_a_changed_file_gives_changed_rows(write: Write) -> None:
    assert list(read_rows(write({"a": 1}))) == [{"a": 1}]
    assert list(read_rows(write({"a": 2}))) == [{"a": 2}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "a.jsonl has no rows"),
        ("a.jsonl", b"\n \n", "a.jsonl has no rows"),
        ("a.json", b"[]", "a.json has no rows"),
        ("a.jsonl", b'{"a": 1}\n\n{"a": \n', "a.jsonl line 3 is not valid JSON: Expecting value, column 7"),
        ("a.jsonl", b'{"a": 1}\n{"a" 1}', "a.jsonl line 2 is not valid JSON: Expecting ':' delimiter, column 6"),
        ("a.jsonl", b'{"a": 1}\n[1]', "a.jsonl line 2 holds a list, not an object"),
        ("a.jsonl", b'{"a": 1}\nnull', "a.jsonl line 2 holds null, not an object"),
        ("a.jsonl", b'{"a": 1}\n"text"', "a.jsonl line 2 holds a string, not an object"),
        ("a.jsonl", b'{"a": 1}\n7', "a.jsonl line 2 holds a number, not an object"),
        ("a.jsonl", b'{"a": 1}\n{"a": "\xff"}', "a.jsonl line 2 is not UTF-8: invalid start byte (byte 0xff)"),
        ("a.jsonl", b'{"a": 1}\n{"a": "\\ud83d"}', "line 2 is not valid JSON: \\ud83d is half of a surrogate pair"),
        ("a.jsonl", b'{"a": 1}\n' + b"[" * 100_000, "a.jsonl line 2 is not valid JSON: maximum recursion"),
        ("a.json", b'{"a":\n 1}', "a.json line 1 is not valid JSON"),
        ("a.json", b'[{"a": 1},\n 5]', "a.json line 2 holds a number, not an object"),
        ("a.json", b'[{"a": 1},\n {"a"]', "a.json line 2 is not valid JSON: Expecting ':' delimiter, column 6"),
        ("a.json", b'[{"a": 1}\n {"a": 1}]', "a.json line 2 is not valid JSON: Expecting ',' or ']'"),
        ("a.json", b'[{"a": 1},\n]', "a.json line 2 is not valid JSON: Expecting value"),
        ("a.json", b'[{"a": 1}', "a.json line 1 is not valid JSON: Expecting ',' or ']'"),
        ("a.json", b"[", "a.json line 1 is not valid JSON"),
        ("a.json", b'[{"a": 1}]\nmore', "a.json line 2 is not valid JSON: Text after the end of the array"),
        ("a.json", b'[{"a": 1},\n{"a": "\xff"}]', "a.json line 2 is not UTF-8"),
        ("a.jsonl.gz", b"not gzip", "a.jsonl.gz cannot be read: Not a gzipped file"),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}')[:-9], "a.jsonl.gz cannot be read: Compressed file ended"),
        ("a.xlsx", b"PK", "a.xlsx is not a data file"),
    ],
)
def test_faults_name_file_and_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        for _ in read_rows(str(tmp_path / name)):
            pass
    assert caught.value.rule
    assert caught.value.remedy
    assert capfd.readouterr() == ("", "")


def test_a_missing_file_names_similar_files(write: Write) -> None:
    path = write({"a": 1}, name="train.jsonl")
    with pytest.raises(DataError, match=r"trian\.jsonl does not exist") as caught:
        read_rows(path.replace("train", "trian"))
    assert caught.value.remedy == f"did you mean {path}?"
    for path in ("./nowhere/at/all.jsonl", "~nobody-of-this-name/a.jsonl", "x" * 300 + "/a.jsonl"):
        with pytest.raises(DataError, match="there is no folder"):
            read_rows(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file(write: Write) -> None:
    path = write({"a": 1})
    Path(path).chmod(0)
    with pytest.raises(DataError, match=r"cannot be read: .*Permission denied"):
        read_rows(path)


def test_a_file_has_no_splits(write: Write) -> None:
    path = write({"a": 1})
    assert len(read_rows(path, split="train")) == 1
    with pytest.raises(DataError, match="split 'test'"):
        read_rows(path, split="test")


def test_a_hub_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run offline, so the loader is replaced."""
    requests = []

    def load(name: str, config: str | None, *, split: str, revision: str | None) -> datasets.Dataset:
        requests.append((name, config, split, revision))
        assert datasets.are_progress_bars_disabled()
        calls = [[{"name": "f", "arguments": {"x": 1}}], [{"name": "g", "arguments": {"y": 2}}]]
        return datasets.Dataset.from_dict({"q": ["a", None], "calls": calls})

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(hub, "look_up", lambda *_: "online")
    bars = datasets.are_progress_bars_disabled()
    rows = read_rows("owner/name:main", split="test")
    assert requests == [("owner/name", "main", "test", None)]
    assert datasets.are_progress_bars_disabled() == bars
    assert rows.columns == ("q", "calls")
    assert list(rows) == [
        {"q": "a", "calls": [{"name": "f", "arguments": {"x": 1}}]},
        {"calls": [{"name": "g", "arguments": {"y": 2}}]},
    ]
    assert rows.where(1) == "owner/name:main row 1 (counted from 0)"


def test_a_hub_set_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(hub, "look_up", lambda *_: "online")
    with pytest.raises(DataError, match=r"owner/name \(split 'train'\) is no file here.*no network"):
        read_rows("owner/name")
