"""The bytes of a file, decompressed, readable piece by piece and from any process.

The lowest step of reading. A compressed file is unpacked once: into memory if that is small, otherwise into a file of
the cache folder that is named after the compressed bytes, so the next run finds it there.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import secrets
import weakref
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Protocol

import zstandard

from burnish.errors import DataError

CHUNK = 1 << 22
"""Bytes read at once where all are read."""
IN_MEMORY = 1 << 25
"""Unpacked bytes up to which a compressed file stays in memory."""
COMPRESSED = (".gz", ".zst")
_PACKED = 1 << 16
"""Bytes of zstd unpacked at once: a piece may become thousands of times as large."""

_MISTAKEN = {
    b"\x1f\x8b": "is compressed with gzip; let its name end in .gz",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd; let its name end in .zst",
    b"PAR1": "is a Parquet file; let its name end in .parquet",
    b"ARROW1": "is an Arrow file; let its name end in .arrow",
    b"PK\x03\x04": "is a zip archive; unpack it",
    b"version https://git-lfs": "is a Git LFS pointer, not the data; fetch the data with `git lfs pull`",
    b"<!DOCTYPE html": "is a web page; fetch the file itself (a hub's raw or resolve link)",
    b"<html": "is a web page; fetch the file itself (a hub's raw or resolve link)",
}
"""How files begin that are not the text which their names promise."""


class Content(Protocol):
    """Bytes that can be read in pieces."""

    @property
    def size(self) -> int:
        """Number of bytes."""

    def read(self, start: int, stop: int) -> bytes:
        """The bytes [start, stop)."""


def chunks(content: Content) -> Iterator[bytes]:
    """All bytes in order."""
    for start in range(0, content.size, CHUNK):
        yield content.read(start, min(start + CHUNK, content.size))


@dataclass(frozen=True, eq=False, slots=True)
class MemoryContent:
    """Bytes in memory."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, stop: int) -> bytes:
        return self.data[start:stop]


@dataclass(frozen=True, slots=True)
class FileContent:
    """A file on disk, as it was when it was first seen. Read at positions, so that processes may share it."""

    path: str
    """Absolute."""
    inode: int
    size: int
    """Bytes."""
    modified: int
    """Nanoseconds."""

    @classmethod
    def of(cls, path: Path) -> FileContent:
        seen = path.stat()
        return cls(str(path.absolute()), seen.st_ino, seen.st_size, seen.st_mtime_ns)

    def read(self, start: int, stop: int) -> bytes:
        descriptor = _opened(self).descriptor
        parts = []
        while start < stop:  # one call gives at most 2 GiB
            part = os.pread(descriptor, stop - start, start)
            if not part:
                raise _changed(self.path)
            parts.append(part)
            start += len(part)
        return b"".join(parts)


class _Opened:
    """An open file, closed when nobody needs it any more."""

    def __init__(self, file: FileContent) -> None:
        try:
            self.descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise _changed(file.path) from error
        weakref.finalize(self, os.close, self.descriptor)
        seen = os.fstat(self.descriptor)
        if (seen.st_ino, seen.st_size, seen.st_mtime_ns) != (file.inode, file.size, file.modified):
            raise _changed(file.path)


_opened = lru_cache(maxsize=64)(_Opened)
"""Few files are open at a time, also where a set has thousands."""


def _changed(path: str) -> DataError:
    return DataError(
        given=f"{path} changed while it was being read",
        rule="a data file stays as it is while a command reads it",
        remedy="run the command again when the file is complete",
    )


def open_content(path: str) -> Content:
    """The content of a file of text, unpacked if its name says that it is compressed."""
    file = expanded(path)
    try:
        ending = file.suffix.lower()
        content = _unpacked(file, ending) if ending in COMPRESSED else FileContent.of(file)
        _check_beginning(path, content.read(0, min(content.size, 32)))
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise unreadable(path, error) from error
    return content


def expanded(path: str) -> Path:
    """The path with ~ replaced. Unlike Path's own way, it lets unknown users be."""
    return Path(os.path.expanduser(path))


def unreadable(path: str, error: Exception) -> DataError:
    return DataError(
        given=f"{path} cannot be read: {error}",
        rule="a data file must be readable, and whole if it is compressed",
        remedy="check the file's permissions, or fetch it again",
    )


def missing(path: str) -> DataError:
    """The error for a path where nothing is, with the names that are almost it."""
    file = expanded(path)
    try:
        near = get_close_matches(file.name, os.listdir(file.parent), n=3, cutoff=0.5)
        remedy = f"did you mean {' or '.join(near)}?" if near else f"{file.parent} has no file of a similar name"
    except OSError:
        remedy = f"there is no folder {file.parent} that can be read; correct the path"
    return DataError(given=f"{path} does not exist", rule="the data is a file or a hub name", remedy=remedy)


def _check_beginning(path: str, beginning: bytes) -> None:
    for magic, remedy in _MISTAKEN.items():
        if beginning.lower().startswith(magic.lower()):
            raise DataError(
                given=f"{path} {remedy.partition(';')[0]}",
                rule="what a file holds is what its name says",
                remedy=remedy.partition("; ")[2],
            )


def _unpacked(file: Path, ending: str) -> Content:
    with file.open("rb") as packed:
        name = hashlib.file_digest(packed, "sha256").hexdigest()
        kept = cache_folder() / "unpacked" / name
        if kept.is_file():
            return FileContent.of(kept)
        packed.seek(0)
        parts = _parts(packed, ending)
        beginning = bytearray()
        for part in parts:
            beginning += part
            if len(beginning) > IN_MEMORY:
                return _kept(kept, bytes(beginning), parts)
        return MemoryContent(bytes(beginning))


def _parts(packed: BinaryIO, ending: str) -> Iterator[bytes]:
    if ending == ".gz":
        with gzip.GzipFile(fileobj=packed) as unpacked:
            while part := unpacked.read(CHUNK):
                yield part
        return
    yield from _zstd_parts(packed)


def _zstd_parts(packed: BinaryIO) -> Iterator[bytes]:
    """All frames. (The library's own reader takes a file that ends within a frame for a whole one.)"""
    frame = zstandard.ZstdDecompressor().decompressobj()
    is_open = True
    while data := packed.read(_PACKED):
        while data:
            if not is_open:
                frame, is_open = zstandard.ZstdDecompressor().decompressobj(), True
            yield frame.decompress(data)
            data, is_open = frame.unused_data, not frame.eof
    if is_open:
        raise EOFError("Compressed file ended before the end of its last frame")


def _kept(place: Path, beginning: bytes, parts: Iterator[bytes]) -> FileContent:
    with new_file(place) as file:
        file.write(beginning)
        for part in parts:
            file.write(part)
    return FileContent.of(place)


@contextmanager
def new_file(place: Path) -> Iterator[BinaryIO]:
    """A file that appears at its place when it is whole. Others may write the same place at the same time."""
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{place.name[:16]}-{secrets.token_hex(8)}")
    try:
        with part.open("xb") as file:
            yield file
        os.replace(part, place)
    finally:
        part.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Where unpacked files are kept: data in $BURNISH_CACHE, else in burnish in the user's cache folder."""
    if chosen := os.environ.get("BURNISH_CACHE"):
        return Path(chosen) / "data"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "burnish" / "data"
