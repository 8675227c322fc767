"""metrics.jsonl and samples.jsonl: one JSON object a line, appended while training, cut back to the checkpoint when a
run resumes.

Owned by `RunFolder`. The law: after a cut at an offset that was given out, the file is what it was at that moment.
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
    """The file, there from its first line on. A torn last line, which a kill can leave, is cut off on opening."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = self._opened() if path.exists() else None
        self.cut(self._size())

    def append(self, lines: Iterable[Mapping[str, JSON]]) -> None:
        """Write the lines, all or none. NaN and infinities become null, since JSON has no word for them."""
        rest = "".join(strict_text(line) + "\n" for line in lines).encode()
        if not rest:
            return
        rule = f"{self._path.stem} are written in whole lines; lines and checkpoints written before are untouched"
        with full_disk_explained(self._path.parent, self._path.name, rule, len(rest)):
            if self._file is None:
                self._file = self._opened()
                sync_folder(self._path.parent)
            before = self._size()
            try:
                while rest:
                    rest = rest[self._file.write(rest) :]
            except OSError:
                self._file.truncate(before)
                raise

    def offset(self) -> int:
        """Bytes that are on the disk now, for a checkpoint to remember."""
        if self._file is not None:
            os.fsync(self._file.fileno())
        return self._size()

    def cut(self, offset: int) -> None:
        """Forget all after `offset`, and a torn line before it. A file that someone made shorter stays short."""
        assert offset >= 0, f"an offset counts bytes from the start, got {offset}"
        if self._file is None:
            return
        end = _last_line_end(self._file, min(offset, self._size()))
        if end != self._size():
            self._file.truncate(end)
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close; lines already appended are in the hands of the kernel."""
        if self._file is not None:
            self._file.close()

    def _opened(self) -> FileIO:
        # Unbuffered: what append has returned from is safe from kill -9, and a fork cannot write it twice.
        return self._path.open("a+b", buffering=0)

    def _size(self) -> int:
        return 0 if self._file is None else os.fstat(self._file.fileno()).st_size


def _last_line_end(file: FileIO, limit: int) -> int:
    """The first byte after the last newline before `limit`; 0 if there is none."""
    while limit > 0:
        start = max(0, limit - _BLOCK)
        found = os.pread(file.fileno(), limit - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        limit = start
    return 0
