"""Every kind of file returns the written rows, and text stays text."""

from __future__ import annotations

import csv
import gzip
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import feather

from burnish.data.read import read_rows
from burnish.data.reading import content, hub, tables
from burnish.data.reading.hub import read_hub
from burnish.data.settings import Documents
from burnish.errors import DataError

in_one_folder = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=8)
NESTED = [
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [{"x": 1}]}], "n": 1},
    {"messages": [{"role": "user", "content": "2024-01-01", "name": "b"}]},
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


@in_one_folder
@given(table=st.lists(st.tuples(cells, cells), min_size=1, max_size=6), tabs=st.booleans())
def test_tables_of_text(tmp_path: Path, table: list[tuple[str, str]], tabs: bool) -> None:
    file = tmp_path / ("any.tsv" if tabs else "any.csv")
    with file.open("w", newline="", encoding="utf-8") as output:
        csv.writer(output, delimiter="\t" if tabs else ",", lineterminator="\n").writerows([("a", "b,\n"), *table])
    rows = read_rows(str(file))
    assert list(rows) == [{"a": a, "b,\n": b} for a, b in table]
    assert rows.columns == ("a", "b,\n")


def test_cells_are_always_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('\ufefflabel,when,none\r\n007,2024-01-01,\r\n\r\n1e3,"NA ""x""\nb",null\r\n')
    rows = read_rows(str(tmp_path / "a.csv"))
    assert list(rows) == [
        {"label": "007", "when": "2024-01-01", "none": ""},
        {"label": "1e3", "when": 'NA "x"\nb', "none": "null"},
    ]
    assert [rows.where(i).rpartition(" ")[2] for i in range(2)] == ["2", "4"]


def test_long_cells_and_unnamed_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f",text\n0,{'x' * 200_000}\n")
    before = csv.field_size_limit()
    (row,) = read_rows(str(tmp_path / "a.csv"))
    assert (row["column 1"], len(str(row["text"]))) == ("0", 200_000)
    assert csv.field_size_limit() == before


def _parquet(file: Path) -> None:
    pq.write_table(pa.Table.from_pylist(NESTED), file, row_group_size=1)


def _arrow_file(file: Path) -> None:
    with pa.ipc.new_file(file, pa.Table.from_pylist(NESTED).schema) as writer:
        writer.write_table(pa.Table.from_pylist(NESTED), max_chunksize=1)


def _arrow_stream(file: Path) -> None:
    with file.open("wb") as output, pa.ipc.new_stream(output, pa.Table.from_pylist(NESTED).schema) as writer:
        writer.write_table(pa.Table.from_pylist(NESTED))


def _feather(file: Path) -> None:
    feather.write_feather(pa.Table.from_pylist(NESTED), str(file), compression="lz4")


WRITERS: dict[str, Callable[[Path], None]] = {
    "a.parquet": _parquet,
    "a.arrow": _arrow_file,
    "stream.arrow": _arrow_stream,
    "a.feather": _feather,
}


@pytest.mark.parametrize("limit", [1 << 26, 0])
@pytest.mark.parametrize("name", WRITERS)
def test_nested_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path, name: str, limit: int) -> None:
    """Keys that Arrow fills with None are removed. Large files are read through the cache."""
    monkeypatch.setattr(tables, "IN_MEMORY", limit)
    WRITERS[name](tmp_path / name)
    rows = read_rows(str(tmp_path / name))
    assert list(rows) == NESTED
    assert rows.columns == ("messages", "n")
    assert rows.where(1) == f"{tmp_path / name} row 1 (counted from 0)"
    assert list(pickle.loads(pickle.dumps(rows))) == NESTED
    assert rows[-1] == NESTED[1]
    with pytest.raises(IndexError):
        rows[2]
    tables_written = list(own_cache.glob("tables/*")) if own_cache.exists() else []
    assert len(tables_written) == (limit == 0 and name in ("a.parquet", "a.feather"))


def test_strings_of_parquet_stay_strings(tmp_path: Path) -> None:
    table = pa.table(
        {"a": pa.array(["007", "2024-01-01"]).dictionary_encode(), "b": pa.array(["1", None], pa.large_string())}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert list(read_rows(str(tmp_path / "a.parquet"))) == [{"a": "007", "b": "1"}, {"a": "2024-01-01"}]


@pytest.mark.parametrize(
    ("documents", "texts", "lines"),
    [
        ("file", ["one\ntwo\r\n\n \nthree\n\n"], [1]),
        ("paragraph", ["one\ntwo", "three"], [1, 5]),
        ("line", ["one", "two", "three"], [1, 2, 5]),
    ],
)
def test_documents(tmp_path: Path, documents: Documents, texts: list[str], lines: list[int]) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\ntwo\r\n\n \nthree\n\n")
    rows = read_rows(str(tmp_path / "a.txt"), documents=documents)
    assert [row["text"] for row in rows] == texts
    assert [rows.where(i) for i in range(len(rows))] == [f"{tmp_path / 'a.txt'} line {line}" for line in lines]
    assert rows.columns == ("text",)


@pytest.mark.parametrize("in_memory", [1 << 25, 4])
@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.csv.gz", "a.txt.zst", "a.json.gz"])
def test_compressed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path, name: str, in_memory: int
) -> None:
    monkeypatch.setattr(content, "IN_MEMORY", in_memory)
    plain = {".jsonl": b'{"text": "a"}\n', ".csv": b"text\na\n", ".txt": b"a     ", ".json": b'[{"text": "a"}]'}
    data = plain["." + name.split(".")[1]]
    packed = gzip.compress(data) if name.endswith("gz") else zstandard.compress(data[:3]) + zstandard.compress(data[3:])
    (tmp_path / name).write_bytes(packed)
    rows = read_rows(str(tmp_path / name))
    assert [str(row["text"]).strip() for row in rows] == ["a"]
    assert len(list(own_cache.glob("unpacked/*"))) == (in_memory == 4)
    (tmp_path / name.rpartition(".")[0]).write_bytes(data)
    assert read_rows(str(tmp_path / name.rpartition(".")[0])).fingerprint == rows.fingerprint
    assert list(pickle.loads(pickle.dumps(rows))) == list(rows) == list(read_rows(str(tmp_path / name)))


def test_a_broken_archive_leaves_nothing_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    monkeypatch.setattr(content, "IN_MEMORY", 4)
    monkeypatch.setattr(content, "CHUNK", 8)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 99)[:-4])
    with pytest.raises(DataError, match="cannot be read"):
        read_rows(str(tmp_path / "a.jsonl.gz"))
    assert list(own_cache.glob("unpacked/*")) == list(own_cache.glob("unpacked/.*")) == []


def test_lines_across_pieces_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index does not depend on the borders of the parts in which a file is read."""
    lines = [b'{"a": 1}', b"", b'  {"a": 2}', b"   ", b"\t\r", b'{"a": 3}']
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    whole = read_rows(str(tmp_path / "a.jsonl"))
    assert [row["a"] for row in whole] == [1, 2, 3]
    for size in range(1, 12):
        monkeypatch.setattr(content, "CHUNK", size)
        rows = read_rows(str(tmp_path / "a.jsonl"))
        assert (list(rows), rows.fingerprint) == (list(whole), whole.fingerprint)
        assert [rows.where(i).rpartition(" ")[2] for i in range(3)] == ["1", "3", "6"]


def test_csv_across_pieces_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text('\ufeffa,b\n1,"x\ny"\n2,é\n', encoding="utf-8")
    whole = list(read_rows(str(tmp_path / "a.csv")))
    assert whole == [{"a": "1", "b": "x\ny"}, {"a": "2", "b": "é"}]
    for size in range(3, 12):
        monkeypatch.setattr(content, "CHUNK", size)
        assert list(read_rows(str(tmp_path / "a.csv"))) == whole


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    def fingerprint(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return read_rows(str(tmp_path / name)).fingerprint

    same = {fingerprint("a.jsonl", '{"a": 1}\n'), fingerprint("b.jsonl", '{"a": 1}\n')}
    others = {fingerprint("a.jsonl", '{"a": 2}\n'), fingerprint("a.csv", "a\n1\n"), fingerprint("a.tsv", "a\n1\n")}
    assert (len(same), len(same | others)) == (1, 4)
    assert all(len(digest) == 64 for digest in same | others)


def test_a_changed_file_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"a": 1}\n' * 9)
    rows = read_rows(str(file))
    sent = pickle.dumps(rows)
    file.unlink()
    file.write_text('{"a": 2}\n' * 8)
    content._open_file.cache_clear()  # another process has opened nothing yet
    with pytest.raises(DataError, match="changed while it was being read"):
        pickle.loads(sent)[0]


def test_picked_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"a": i}) + "\n" for i in range(9)))
    rows = read_rows(str(tmp_path / "a.jsonl"))
    some = rows.pick([4, 2, 2])
    assert [row["a"] for row in some] == [4, 2, 2]
    assert (some.where(0), some.source, some.columns, len(some)) == (rows.where(4), rows.source, ("a",), 3)
    assert some.fingerprint != rows.pick([4, 2]).fingerprint != rows.fingerprint
    assert list(pickle.loads(pickle.dumps(some))) == list(some)


def test_hub_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run offline, so the loader is replaced."""
    calls = []

    def load(name: str, config: str | None, **options: object) -> datasets.Dataset:
        calls.append((name, config, options))
        assert datasets.are_progress_bars_disabled()
        dataset = datasets.Dataset.from_list(NESTED)
        return dataset.to_iterable_dataset() if options.get("streaming") else dataset

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(hub, "look_up", lambda *_: "online")
    rows = read_rows("owner/name@v1.2:main[test]")
    assert calls == [("owner/name", "main", {"split": "test", "revision": "v1.2"})]
    assert list(rows) == NESTED
    assert rows.where(1) == "owner/name@v1.2:main[test] row 1 (counted from 0)"
    assert list(pickle.loads(pickle.dumps(rows))) == NESTED
    assert rows.fingerprint == read_rows("other/name", split="test").fingerprint
    assert len(read_rows("owner/name", stream=1)) == 1
    assert calls[-1] == ("owner/name", None, {"split": "train", "revision": None, "streaming": True})
    assert read_rows("owner/name", stream=2).fingerprint == rows.fingerprint
    assert len(read_rows("owner/name#1")) == 1
    for wrong in ("owner/name[a", "owner/name@", "[test]"):
        with pytest.raises(DataError, match="no hub name"):
            read_rows(wrong)
    with pytest.raises(DataError, match=r"owner/name\[test\] with split 'train'"):
        read_rows("owner/name[test]", split="train")


def test_saved_and_loaded_by_datasets(tmp_path: Path) -> None:
    saved = datasets.Dataset.from_list(NESTED)
    saved.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": saved, "test": saved.select([1])}).save_to_disk(str(tmp_path / "two"))
    assert list(read_rows(str(tmp_path / "one"))) == NESTED
    assert list(read_rows(str(tmp_path / "two"))) == NESTED
    assert list(read_rows(str(tmp_path / "two"), split="test")) == NESTED[1:]
    with pytest.raises(DataError, match=r"no split 'dev'"):
        read_rows(str(tmp_path / "two"), split="dev")


def test_a_real_load_by_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that `datasets` loads like a hub set of such files."""
    folder = tmp_path / "set"
    folder.mkdir()
    _parquet(folder / "train.parquet")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    monkeypatch.setattr(hub, "look_up", lambda *_: "online")
    dataset = read_hub(str(folder), None)
    assert list(dataset) == NESTED
    assert read_hub(str(folder), "train[:1]").fingerprint != dataset.fingerprint
