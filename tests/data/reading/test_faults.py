"""Broken files, and files with a wrong extension: message, place and remedy."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from burnish.data.read import read_rows
from burnish.errors import DataError


def _parquet(table: pa.Table) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream)
    return stream.getvalue()


def _arrow(table: pa.Table) -> bytes:
    stream = io.BytesIO()
    with pa.ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table)
    return stream.getvalue()


ONE = pa.table({"a": ["x"]})

FAULTS: list[tuple[str, bytes, str, str]] = [
    ("a.csv", b"", "a.csv has no rows", "fill the file"),
    ("a.csv", b"a,b\n", "a.csv has no rows", "fill the file"),
    ("a.csv", b"a,b\n1,2\n1\n", "line 3 has 1 values for 2 columns (a, b)", "correct line 3"),
    ("a.csv", b'a,b\n"x\ny",2\n1,2,3\n', "line 4 has 3 values for 2 columns", "correct line 4"),
    ("a.csv", b'a,b\n1,2\n1,"2\n3,4\n', "line 3 is not a row of a table: unexpected end of data", "line 3"),
    ("a.csv", b'a,b\n"1"x,2\n', "line 2 is not a row of a table: ',' expected after '\"'", "quotes"),
    ("a.csv", b"a,b\n1,2\rx,y\n", "line 2 is not a row of a table: new-line character", "line 2"),
    ("a.csv", b"a,b,a\n1,2,3\n", "line 1 names the column 'a' twice", "rename"),
    ("a.csv", b"a;b\n1;2\n", "line 1 seems to be separated by ';'", "save it with commas"),
    ("a.csv", b"a\tb\n1\t2\n", "line 1 seems to be separated by '\\t'", "let its name end in .tsv"),
    ("a.csv", b'a,b\n1,"x\n\xff"\n', "line 3 is not UTF-8: invalid start byte (byte 0xff)", "save the file as UTF-8"),
    ("a.csv", "a,b\n1,2\n".encode("utf-16"), "a.csv line 1 is not UTF-8", "UTF-8"),
    ("a.txt", b"", "a.txt has no rows", "fill the file"),
    ("a.txt", b" \n\t\n", "a.txt has no rows", "fill the file"),
    ("a.jsonl", gzip.compress(b'{"a": 1}', mtime=0), "is compressed with gzip", "let its name end in .gz"),
    ("a.jsonl", zstandard.compress(b'{"a": 1}'), "is compressed with zstd", "let its name end in .zst"),
    ("a.jsonl", _parquet(ONE), "is a Parquet file", "let its name end in .parquet"),
    ("a.json", _arrow(ONE), "is an Arrow file", "let its name end in .arrow"),
    ("a.csv", b"PK\x03\x04....", "is a zip archive", "unpack it"),
    ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer", "git lfs pull"),
    ("a.jsonl", b"<!doctype html>\n<html>", "is a web page", "fetch the file itself"),
    ("a.jsonl.zst", b"not zstd", "cannot be read", "fetch it again"),
    ("a.jsonl.zst", zstandard.compress(b'{"a": 1}')[:-3], "cannot be read: Compressed file ended", "again"),
    ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n{"a": \n', mtime=0), "a.jsonl.gz line 2 is not valid JSON", "line 2"),
    ("a.parquet", b"", "a.parquet cannot be read", "fetch it again"),
    ("a.parquet", b"no parquet at all", "a.parquet cannot be read", "fetch it again"),
    ("a.parquet", _parquet(ONE)[:-20], "a.parquet cannot be read", "fetch it again"),
    ("a.parquet", _parquet(ONE.slice(0, 0)), "a.parquet has no rows", "fill the file"),
    ("a.arrow", b"no arrow at all", "a.arrow cannot be read", "fetch it again"),
    ("a.arrow", _arrow(ONE.slice(0, 0)), "a.arrow has no rows", "fill the file"),
    ("a.arrow", _arrow(pa.table([["x"], ["y"]], names=["a", "a"])), "has the column 'a' twice", "rename"),
    ("a.parquet.gz", b"x", "a.parquet.gz is not a data file", "convert it"),
    ("a.xlsx", b"x", "a.xlsx is not a data file", "convert it"),
    ("a.zip", b"x", "a.zip is not a data file", "convert it"),
]


@pytest.mark.parametrize(("name", "data", "message", "remedy"), FAULTS)
def test_faults_name_file_and_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, data: bytes, message: str, remedy: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_rows(str(tmp_path / name))
    assert str(tmp_path / name) in caught.value.given
    assert remedy in caught.value.remedy
    assert capfd.readouterr() == ("", "")


def test_a_broken_line_far_down_is_found_when_it_is_read(tmp_path: Path) -> None:
    """Only some rows are read before; a file is never parsed twice."""
    file = tmp_path / "a.jsonl"
    file.write_text('{"a": 1}\n' * 200_001 + '{"a": \n' + '{"a": 1}\n' * 3)
    rows = read_rows(str(file))
    assert rows[200_002] == {"a": 1}
    with pytest.raises(DataError, match="line 200002 is not valid JSON: Expecting value, column 7"):
        rows[200_001]


@pytest.mark.parametrize(
    ("files", "path", "message", "remedy"),
    [
        (["a.jsonl", "b.csv"], ".", "has files of several kinds: .csv, .jsonl", "/*.csv*"),
        (["train.jsonl", "test.jsonl"], ".", "has files of several splits: test, train", "such as split: train"),
        (["README.md"], ".", "is a folder without data files (it has README.md)", "another folder"),
        ([], ".", "is a folder without data files", "another folder"),
        ([".hidden.jsonl"], ".", "is a folder without data files", "another folder"),
        (["a.jsonl"], "*.csv", "matches no file", "the current folder is"),
        (["a.md"], "*.md", "a.md is not a data file", "convert it to .jsonl"),
        (["a.jsonl"], "a.jsonl#2", "2 rows of", "ask for at most 1"),
        (["a.jsonl"], "a.jsonl#0", "0 rows of", "ask for at most 1"),
    ],
)
def test_faults_of_several_files(tmp_path: Path, files: list[str], path: str, message: str, remedy: str) -> None:
    for name in files:
        (tmp_path / name).write_text('{"a": 1}\n')
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_rows(str(tmp_path) if path == "." else str(tmp_path / path))
    assert remedy in caught.value.remedy


def test_missing_splits(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(DataError, match="no files of the split 'test'"):
        read_rows(str(tmp_path), split="test")
    with pytest.raises(DataError, match=r"split 'test' of .*\*\.jsonl"):
        read_rows(str(tmp_path / "*.jsonl"), split="test")
    with pytest.raises(DataError, match="only hub sets are streamed"):
        read_rows(str(tmp_path), stream=5)


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    def make(*names: str) -> Path:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f'{{"name": "{name}"}}\n' * 2)
        return tmp_path

    return make


def names(path: Path | str, **options: str) -> list[object]:
    return [row["name"] for row in read_rows(str(path), **options)][::2]


def test_folders_in_the_order_of_their_names(folder: Callable[..., Path]) -> None:
    root = folder("b.jsonl", "a/2.jsonl", "a/10.jsonl", ".git/c.jsonl", "_tmp/c.jsonl", "README.md")
    assert names(root) == ["a/10.jsonl", "a/2.jsonl", "b.jsonl"]
    rows = read_rows(str(root))
    assert (len(rows), rows.columns) == (6, ("name",))
    assert [rows.where(i).removeprefix(str(root)) for i in (0, 3)] == ["/a/10.jsonl line 1", "/a/2.jsonl line 2"]
    assert rows[-1] == {"name": "b.jsonl"}
    with pytest.raises(IndexError):
        rows[6]


def test_patterns(folder: Callable[..., Path]) -> None:
    root = folder("b.jsonl", "a/1.jsonl", "a/2.jsonl", "a/b/3.jsonl", "c.csv")
    assert names(root / "a" / "*.jsonl") == ["a/1.jsonl", "a/2.jsonl"]
    assert names(root / "**" / "*.jsonl") == ["a/1.jsonl", "a/2.jsonl", "a/b/3.jsonl", "b.jsonl"]
    assert names(root / "?.jsonl") == ["b.jsonl"]


def test_splits_of_folders(folder: Callable[..., Path]) -> None:
    root = folder("train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl", "test.jsonl", "test_extra.jsonl")
    assert names(root, split="train") == ["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"]
    assert names(root, split="test") == ["test.jsonl"]
    assert names(root, split="test_extra") == ["test_extra.jsonl"]


def test_a_folder_without_splits_is_its_train_split(folder: Callable[..., Path]) -> None:
    assert names(folder("a.jsonl", "b.jsonl"), split="train") == ["a.jsonl", "b.jsonl"]
