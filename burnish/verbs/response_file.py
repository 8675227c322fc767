"""File of responses that is written atomically: until it is complete, lines go to a hidden file next to it, from which
the same command resumes after an interruption."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from burnish.errors import RunError
from burnish.runs.journal import Journal


class ResponseFile:
    """The responses so far, one JSON object per line."""

    def __init__(self, journal: Journal, part: Path) -> None:
        self._journal, self._part = journal, part
        self.lines = [json.loads(line) for line in part.read_text(encoding="utf-8").splitlines()]
        """All lines, those of an earlier process included."""

    def append(self, line: Mapping[str, Any]) -> None:
        """Appends a line and flushes it to the disk."""
        self._journal.append([line])
        self.lines.append(dict(line))


@contextmanager
def response_file(output: Path, identity: str) -> Iterator[ResponseFile]:
    """Context manager in which lines are appended; after it, without an error, the complete file is in its place.

    Args:
        output: the file.
        identity: hash of everything that determines the responses; with another one, the file is started again.

    Raises:
        RunError: the file exists, another process writes it, or it cannot be written.
    """
    refuse_existing(output)
    part = output.with_name(f".{output.name}.{identity[:16]}.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(part, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise _unwritable(output, error) from error
    try:
        _take(lock, output)
        journal = Journal(part)
        try:
            yield ResponseFile(journal, part)
        finally:
            journal.close()
        os.replace(part, output)
    finally:
        os.close(lock)


def refuse_existing(output: Path) -> None:
    """Refuses to overwrite a file.

    Raises:
        RunError: it exists.
    """
    if output.exists():
        raise RunError(
            given=f"{output} exists",
            rule="generated responses never overwrite a file",
            remedy="delete it, or name another --output",
        )


def _take(lock: int, output: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RunError(
            given=f"another process is writing {output}",
            rule="one process at a time writes a file",
            remedy="wait for it or stop it, or give another --output",
        ) from error


def _unwritable(output: Path, error: OSError) -> RunError:
    return RunError(
        given=f"{output} cannot be written: {error.strerror}",
        rule="the output is a file in a writable folder",
        remedy="name another --output",
    )
