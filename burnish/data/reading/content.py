"""Content of a file: decompressed bytes, readable in parts and from any process.

The lowest layer of reading. A compressed file is unpacked once: into memory if it is small, otherwise into a file of
the cache folder named after the hash of the compressed bytes, so the next run reuses it.
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
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Protocol

import zstandard

from burnish.errors import DataError
from burnish.local_path import cache_folder, nearest_path

CHUNK = 1 << 22
"""Bytes per read of a whole file."""
IN_MEMORY = 1 << 25
"""Maximum unpacked bytes of a compressed file that stays in memory."""
COMPRESSED = (".gz", ".zst")
_ZSTD_CHUNK = 1 << 16
"""Compressed bytes of zstd per step: a part may unpack to thousands of times its size."""

LFS_POINTER = b"version https://git-lfs"
_WRONG_CONTENT = {
    b"\x1f\x8b": "is compressed with gzip; let its name end in .gz",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd; let its name end in .zst",
    b"PAR1": "is a Parquet file; let its name end in .parquet",
    b"ARROW1": "is an Arrow file; let its name end in .arrow",
    b"PK\x03\x04": "is a zip archive; unpack it",
    LFS_POINTER: "is a Git LFS pointer, not the data; fetch the data with `git lfs pull`",
    b"<!DOCTYPE html": "is a web page; fetch the file itself (a hub's raw or resolve link)",
    b"<html": "is a web page; fetch the file itself (a hub's raw or resolve link)",
}
"""First bytes of files whose content does not fit their extension -> error and remedy."""


class Content(Protocol):
    """Bytes that can be read in parts."""

    @property
    def size(self) -> int:
        """Number of bytes."""

    def read(self, start: int, stop: int) -> bytes:
        """Reads the bytes [start, stop)."""


def chunks(content: Content) -> Iterator[bytes]:
    """Yields all bytes in order."""
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
    """File on disk; a later change of the file is an error. Reads at positions, so that processes can share it."""

    path: str
    """Absolute path."""
    inode: int
    size: int
    """Bytes."""
    modified: int
    """Time of modification, nanoseconds."""

    @classmethod
    def of(cls, path: Path) -> FileContent:
        status = path.stat()
        return cls(str(path.absolute()), status.st_ino, status.st_size, status.st_mtime_ns)

    def read(self, start: int, stop: int) -> bytes:
        descriptor = _open_file(self).descriptor
        parts = []
        while start < stop:  # one call returns at most 2 GiB
            part = os.pread(descriptor, stop - start, start)
            if not part:
                raise _changed_error(self.path)
            parts.append(part)
            start += len(part)
        return b"".join(parts)


class _OpenFile:
    """Open file descriptor, closed with its last reference."""

    def __init__(self, file: FileContent) -> None:
        try:
            self.descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise _changed_error(file.path) from error
        weakref.finalize(self, os.close, self.descriptor)
        status = os.fstat(self.descriptor)
        if (status.st_ino, status.st_size, status.st_mtime_ns) != (file.inode, file.size, file.modified):
            raise _changed_error(file.path)


_open_file = lru_cache(maxsize=64)(_OpenFile)
"""Limits the number of open files of a set with thousands."""


def _changed_error(path: str) -> DataError:
    return DataError(
        given=f"{path} changed while it was being read",
        rule="a data file stays as it is while a command reads it",
        remedy="run the command again when the file is complete",
    )


def open_content(path: str) -> Content:
    """Opens the content of a text file, unpacked if its extension is that of a compressed file."""
    file = expanded(path)
    try:
        check_beginning(path, LFS_POINTER)
        ending = file.suffix.lower()
        content = _unpacked(file, ending) if ending in COMPRESSED else FileContent.of(file)
        _check_magic(path, content.read(0, min(content.size, 32)))
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise unreadable(path, error) from error
    return content


def expanded(path: str) -> Path:
    """Expands ~ in a path. Unlike Path.expanduser, it leaves unknown users unchanged."""
    return Path(os.path.expanduser(path))


def unreadable(path: str, error: Exception) -> DataError:
    return DataError(
        given=f"{path} cannot be read: {error}",
        rule="a data file must be readable, and whole if it is compressed",
        remedy="check the file's permissions, or fetch it again",
    )


def missing(path: str) -> DataError:
    """Error for a missing path, with the existing path that is nearest to it."""
    folder = expanded(path).parent
    if near := nearest_path(path):
        remedy = f"did you mean {near}?"
    elif os.path.isdir(folder):
        remedy = f"{folder} has no file of a similar name"
    else:
        remedy = f"there is no folder {folder}; correct the path"
    return DataError(
        given=f"{path} does not exist",
        rule="the data is a file or a hub name; a name that looks like a path is never looked up on the hub",
        remedy=remedy,
    )


def check_beginning(path: str, *magics: bytes) -> None:
    """Refuses a file whose first bytes are those of wrong content, as `open_content` does for text.

    Args:
        path: as the user writes it.
        magics: keys of `_WRONG_CONTENT`.

    Raises:
        DataError: it begins with one of them.
        OSError: it cannot be read.
    """
    with expanded(path).open("rb") as file:
        beginning = file.read(32)
    if any(beginning.startswith(magic) for magic in magics):
        _check_magic(path, beginning)


def _check_magic(path: str, beginning: bytes) -> None:
    for magic, remedy in _WRONG_CONTENT.items():
        if beginning.lower().startswith(magic.lower()):
            raise DataError(
                given=f"{path} {remedy.partition(';')[0]}",
                rule="the content of a file fits its extension",
                remedy=remedy.partition("; ")[2],
            )


def _unpacked(file: Path, ending: str) -> Content:
    with file.open("rb") as compressed:
        name = hashlib.file_digest(compressed, "sha256").hexdigest()
        unpacked_file = cache_folder() / "data" / "unpacked" / name
        if unpacked_file.is_file():
            return FileContent.of(unpacked_file)
        compressed.seek(0)
        parts = _unpacked_parts(compressed, ending)
        beginning = bytearray()
        for part in parts:
            beginning += part
            if len(beginning) > IN_MEMORY:
                return _write_unpacked(unpacked_file, bytes(beginning), parts)
        return MemoryContent(bytes(beginning))


def _unpacked_parts(compressed: BinaryIO, ending: str) -> Iterator[bytes]:
    if ending == ".gz":
        with gzip.GzipFile(fileobj=compressed) as unpacked:
            while part := unpacked.read(CHUNK):
                yield part
        return
    yield from _zstd_parts(compressed)


def _zstd_parts(compressed: BinaryIO) -> Iterator[bytes]:
    """Yields the data of all frames. (The library's reader accepts a file that ends within a frame.)"""
    frame = zstandard.ZstdDecompressor().decompressobj()
    in_frame = True
    while data := compressed.read(_ZSTD_CHUNK):
        while data:
            if not in_frame:
                frame, in_frame = zstandard.ZstdDecompressor().decompressobj(), True
            yield frame.decompress(data)
            data, in_frame = frame.unused_data, not frame.eof
    if in_frame:
        raise EOFError("Compressed file ended before the end of its last frame")


def _write_unpacked(place: Path, beginning: bytes, parts: Iterator[bytes]) -> FileContent:
    with new_file(place) as file:
        file.write(beginning)
        for part in parts:
            file.write(part)
    return FileContent.of(place)


@contextmanager
def new_file(place: Path) -> Iterator[BinaryIO]:
    """Context manager of a file that is written atomically; several processes may write the same path at a time."""
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{place.name[:16]}-{secrets.token_hex(8)}")
    try:
        with part.open("xb") as file:
            yield file
        os.replace(part, place)
    finally:
        part.unlink(missing_ok=True)
