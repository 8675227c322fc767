"""Journals metrics.jsonl and samples.jsonl: one JSON object per line, appended in training, truncated on resume.

Used by `RunFolder`. Invariant: a file that is cut at an offset from `Journal.offset` has the content that it had when
the offset was taken.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from io import FileIO
from pathlib import Path

from burnish.runs.disk import full_disk_explained
from burnish.runs.durable import sync_folder
from burnish.runs.json_value import JSON, strict_text

_BLOCK = 1 << 16


class Journal:
    """Journal file, created with its first line. An incomplete last line, which a kill can leave, is removed on
    opening."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = self._opened() if path.exists() else None
        self.cut(self._size())

    def append(self, lines: Iterable[Mapping[str, JSON]]) -> None:
        """Writes all lines or none. NaN and infinities, which JSON does not have, become null."""
        unwritten = "".join(strict_text(line) + "\n" for line in lines).encode()
        if not unwritten:
            return
        rule = f"{self._path.stem} are written in whole lines; lines and checkpoints written before are untouched"
        with full_disk_explained(self._path.parent, self._path.name, rule, len(unwritten)):
            if self._file is None:
                self._file = self._opened()
                sync_folder(self._path.parent)
            before = self._size()
            try:
                while unwritten:
                    unwritten = unwritten[self._file.write(unwritten) :]
            except OSError:
                self._file.truncate(before)
                raise

    def offset(self) -> int:
        """Size in bytes after a sync to the disk, for a checkpoint."""
        if self._file is not None:
            os.fsync(self._file.fileno())
        return self._size()

    def cut(self, offset: int) -> None:
        """Truncates the file to `offset`, and removes an incomplete line before it. A shorter file is not extended."""
        assert offset >= 0, f"an offset counts bytes from the start, got {offset}"
        if self._file is None:
            return
        end = _last_line_end(self._file, min(offset, self._size()))
        if end != self._size():
            self._file.truncate(end)
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file; the kernel has all appended lines."""
        if self._file is not None:
            self._file.close()

    def _opened(self) -> FileIO:
        # Unbuffered: appended lines survive kill -9, and a fork cannot write them twice.
        return self._path.open("a+b", buffering=0)

    def _size(self) -> int:
        return 0 if self._file is None else os.fstat(self._file.fileno()).st_size


def _last_line_end(file: FileIO, limit: int) -> int:
    """The first byte after the last newline before `limit`; 0 if there is none."""
    while limit > 0:
        start = max(0, limit - _BLOCK)
        newline = os.pread(file.fileno(), limit - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        limit = start
    return 0
