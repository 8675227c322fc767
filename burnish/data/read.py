"""Reading of data sets: opens a path or hub name with the reader of its kind.

The first step of data preparation: `read_rows` returns `Rows`; `formats` converts a row to an example. Readers never
change text: strings stay strings, and all values of CSV are strings.
"""

from __future__ import annotations

import os

from burnish.data.reading.builtin_set import is_builtin, read_builtin
from burnish.data.reading.content import COMPRESSED, expanded, missing, unreadable
from burnish.data.reading.csv_text import read_csv
from burnish.data.reading.documents import read_documents
from burnish.data.reading.folder import JoinedRows, ending, inside, is_pattern, matching
from burnish.data.reading.hub import HubName, read_hub, read_saved
from burnish.data.reading.json_text import read_json
from burnish.data.reading.stored import StoredRows, missing_stored_rows
from burnish.data.reading.tables import read_table
from burnish.data.row import Row
from burnish.data.rows import Rows
from burnish.data.sample import sample, split_count
from burnish.data.settings import Documents, is_stored_rows
from burnish.errors import DataError
from burnish.local_path import looks_like_path

__all__ = ["ENDINGS", "Documents", "Row", "Rows", "read_rows"]

ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".feather", ".txt")
"""Extensions of data files; text files may also be compressed (.gz, .zst)."""

_TABLES = (".parquet", ".arrow", ".feather")


def read_rows(
    path: str,
    *,
    split: str | None = None,
    documents: Documents = "file",
    seed: int = 0,
    stream: int | None = None,
) -> Rows:
    """Opens a file, a folder, a pattern, a hub set, or a set that comes with the package (``builtin:chat``).

    Args:
        path: as the user writes it; ``#500`` at its end draws 500 rows by ``seed``, see `sample`.
        split: of a hub set, a built-in set or a folder (None: "train" for the first two); a file is one split.
        documents: unit of a row in a text file.
        seed: seed of the sample.
        stream: number of first rows to fetch of a hub set; None: all.
    """
    whole, count = split_count(path)
    rows = _read(whole, split, documents, stream)
    return rows if count is None else sample(rows, count, seed)


def _read(path: str, split: str | None, documents: Documents, stream: int | None) -> Rows:
    if not _looks_local(path):
        return read_hub(path, split, first=stream)
    if stream is not None:
        raise DataError(
            given=f"stream: {stream} for {path}",
            rule="only hub sets are streamed; a file is never read into memory as a whole anyway",
            remedy="remove stream; count takes a part of the rows",
        )
    if is_builtin(path):
        return read_builtin(path, split)
    file = expanded(path)
    if is_stored_rows(path):
        if not os.path.exists(file):
            raise missing_stored_rows(path)
        return StoredRows(_read_file(path, documents))
    if not is_pattern(path) and not os.path.exists(file):
        raise missing(path)
    if os.path.isdir(file):
        return _read_folder(path, split, documents)
    if split not in (None, "train"):
        raise DataError(
            given=f"split {split!r} of {path}",
            rule="a file is one split, and so are the files that a pattern matches",
            remedy="leave split out, or name another file",
        )
    if is_pattern(path):
        return _joined(path, matching(path), documents)
    return _read_file(path, documents)


def _looks_local(path: str) -> bool:
    hub = HubName.of(path)
    return (
        ending(path, (*ENDINGS, ".xlsx", ".zip")) is not None
        or looks_like_path(path if hub is None else hub.name)
        or is_builtin(path)
        or is_pattern(path)
        or os.path.exists(path)  # unlike Path.exists, it returns False for invalid names
        or not path
    )


def _read_folder(path: str, split: str | None, documents: Documents) -> Rows:
    folder = expanded(path)
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            return read_saved(str(folder), split)
        return _joined(path, inside(path, split, ENDINGS), documents)
    except OSError as error:
        raise unreadable(path, error) from error


def _joined(path: str, files: tuple[str, ...], documents: Documents) -> Rows:
    parts = tuple(_read_file(file, documents) for file in files)
    return parts[0] if len(parts) == 1 else JoinedRows(path, parts)


def _read_file(path: str, documents: Documents) -> Rows:
    kind = ending(path, ENDINGS)
    is_packed = path.lower().endswith(COMPRESSED)
    if not expanded(path).is_file() or kind is None or (kind in _TABLES and is_packed):
        raise DataError(
            given=f"{path} is not a data file",
            rule=f"a data file ends in one of: {', '.join(ENDINGS)}; those of text also with {' or '.join(COMPRESSED)}",
            remedy="convert it to .jsonl, one JSON object on each line",
        )
    if kind == ".txt":
        return read_documents(path, documents)
    if kind in (".csv", ".tsv"):
        return read_csv(path, "," if kind == ".csv" else "\t")
    if kind in _TABLES:
        return read_table(path, "parquet" if kind == ".parquet" else "arrow")
    return read_json(path, lines=kind != ".json")
