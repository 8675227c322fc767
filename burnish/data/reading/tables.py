"""Reader of Parquet, Arrow and Feather files.

Rows come from Arrow tables. A small file is held in memory; a large Arrow file is memory-mapped; a large Parquet file
is written once as an Arrow file in the cache folder, since Parquet has no access to single rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from burnish.data.reading.content import LFS_POINTER, check_beginning, expanded, new_file, unreadable
from burnish.data.reading.spans import no_rows
from burnish.data.row import Row
from burnish.data.rows import Indices, Rows
from burnish.errors import DataError
from burnish.local_path import cache_folder

IN_MEMORY = 1 << 26
"""Maximum bytes of a Parquet file, or of a compressed Arrow file, that is held in memory."""
_BATCH = 1000
"""Rows per batch of the written files."""

Kind = Literal["parquet", "arrow"]


@dataclass(eq=False, slots=True)
class TableRows(Rows):
    """Rows of a table file, opened at the first access in each process."""

    source: str
    """Path that the user gave."""
    place: str
    """File that is opened: the same, or its copy in the cache folder."""
    kind: Kind
    """Type of the file at ``place``."""
    columns: tuple[str, ...]
    fingerprint: str
    num_rows: int
    _opened: tuple[list[Any], Indices] | None = field(default=None, repr=False)
    """Batches, and the index of the first row of each with the number of all rows."""

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]
        at = range(self.num_rows)[index]
        batches, firsts = self._opened or self._open()
        which = int(np.searchsorted(firsts, at, side="right")) - 1
        (row,) = batches[which].slice(at - int(firsts[which]), 1).to_pylist()
        return without_nulls(row)

    def where(self, index: int) -> str:
        return f"{self.source} row {range(self.num_rows)[index]} (counted from 0)"

    def _open(self) -> tuple[list[Any], Indices]:
        try:
            batches = _batches(self.place, self.kind)
        except (OSError, pa.ArrowException) as error:
            raise unreadable(self.source, error) from error
        firsts = np.cumsum([0, *(batch.num_rows for batch in batches)])
        self._opened = batches, firsts
        return self._opened

    def __getstate__(self) -> tuple[object, ...]:
        return self.source, self.place, self.kind, self.columns, self.fingerprint, self.num_rows

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.source, self.place, self.kind, self.columns, self.fingerprint, self.num_rows = state
        self._opened = None


def read_table(path: str, kind: Kind) -> TableRows:
    """Opens a Parquet or Arrow file as rows."""
    file = expanded(path).absolute()
    try:
        check_beginning(path, LFS_POINTER)
        with file.open("rb") as content:
            identity = hashlib.file_digest(content, "sha256").hexdigest()
        place = _reachable(file, kind, identity)
        opened = "arrow" if place != file else kind
        rows = TableRows(path, str(place), opened, (), identity, 0)
        batches, firsts = rows._open()
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from error
    rows.num_rows = int(firsts[-1])
    if rows.num_rows == 0:
        raise no_rows(path)
    names = batches[0].schema.names
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise DataError(
            given=f"{path} has the column {twice[0]!r} twice",
            rule="columns have names of their own",
            remedy="rename one",
        )
    rows.columns = tuple(name for name in names if any(batch[name].null_count < batch.num_rows for batch in batches))
    return rows


def _reachable(file: Path, kind: Kind, identity: str) -> Path:
    """Returns a file with access to single rows: this one, or its copy in the cache folder."""
    if file.stat().st_size <= IN_MEMORY or (kind == "arrow" and not _is_compressed(file)):
        return file
    converted = cache_folder() / "data" / "tables" / f"{identity}.arrow"
    if not converted.is_file():
        batches = iter(_read_batches(file, kind))
        first = next(batches)
        with new_file(converted) as output, pa.ipc.new_file(output, first.schema) as writer:
            writer.write(first)
            for batch in batches:
                writer.write(batch)
    return converted


def _read_batches(file: Path, kind: Kind) -> Iterator[Any]:
    if kind == "parquet":
        # With read-ahead, or over all row groups at once, pyarrow keeps the read data in memory until the end.
        with pq.ParquetFile(file, pre_buffer=False) as parquet:
            for group in range(parquet.num_row_groups):
                yield from parquet.iter_batches(_BATCH, row_groups=[group])
        return
    yield from _mapped_batches(str(file))


def _is_compressed(file: Path) -> bool:
    """True if access to a batch allocates memory: uncompressed mapped batches allocate none."""
    before = pa.total_allocated_bytes()
    batch = next(_mapped_batches(str(file)), None)
    return batch is not None and pa.total_allocated_bytes() - before > batch.nbytes // 2


def _batches(place: str, kind: Kind) -> list[Any]:
    """Returns all batches, including empty ones; at least one, so the columns are known."""
    if kind == "parquet":
        table = pq.read_table(place, partitioning=None, memory_map=False)
        return table.to_batches(_BATCH) or [pa.RecordBatch.from_pylist([], schema=table.schema)]
    batches = list(_mapped_batches(place))
    return batches or [pa.RecordBatch.from_pylist([], schema=_reader(place).schema)]


def _mapped_batches(place: str) -> Iterator[Any]:
    """Yields the memory-mapped batches of an Arrow file in the file or the stream format."""
    reader = _reader(place)
    if isinstance(reader, pa.ipc.RecordBatchFileReader):
        yield from (reader.get_batch(index) for index in range(reader.num_record_batches))
    else:
        yield from reader


def _reader(place: str) -> Any:
    try:
        return pa.ipc.open_file(pa.memory_map(place))
    except pa.ArrowInvalid:
        return pa.ipc.open_stream(pa.memory_map(place))


def without_nulls(row: Row) -> Row:
    """Removes keys with None from a row, since Arrow gives every struct all keys of its column."""
    return {name: _pruned(value) for name, value in row.items() if value is not None}


def _pruned(value: object) -> object:
    if isinstance(value, dict):
        return {name: _pruned(entry) for name, entry in value.items() if entry is not None}
    return [_pruned(entry) for entry in value] if isinstance(value, list) else value


def table_digest(parts: Iterable[Any], start: bytes) -> str:
    """sha256 of the values of a table in parts, without its metadata.

    Args:
        parts: tables of Arrow; another division of the same rows gives another hash.
        start: bytes that are hashed before.
    """
    digest = _Digest(start)
    for part in parts:
        whole = part.replace_schema_metadata(None).combine_chunks()
        with pa.ipc.new_stream(pa.PythonFile(digest, mode="w"), whole.schema) as writer:
            writer.write_table(whole)
    return digest.hash.hexdigest()


class _Digest:
    """sha256 with the interface of a writable file."""

    closed = False

    def __init__(self, start: bytes) -> None:
        self.hash = hashlib.sha256(start)

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        return len(data)

    def flush(self) -> None: ...

    def close(self) -> None: ...
