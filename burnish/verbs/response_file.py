"""A file of answers that appears when it is whole. Until then a hidden one beside it grows, and the same command goes
on with that after any interruption. Under `generation`."""

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
    """The answers so far, a JSON object a line."""

    def __init__(self, journal: Journal, part: Path) -> None:
        self._journal, self._part = journal, part
        self.lines = [json.loads(line) for line in part.read_text(encoding="utf-8").splitlines()]
        """All that are written, those of an earlier process too."""

    def append(self, line: Mapping[str, Any]) -> None:
        """One more line, at once on the disk."""
        self._journal.append([line])
        self.lines.append(dict(line))


@contextmanager
def response_file(output: Path, identity: str) -> Iterator[ResponseFile]:
    """Inside, answers are appended; left without an error, the file is whole and in its place.

    Args:
        output: the file.
        identity: of all that decides the answers; with another one it begins anew.

    Raises:
        RunError: the file is there, somebody else writes it, or it cannot be written.
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
    """Refuses to write over a file.

    Raises:
        RunError: it is there.
    """
    if output.exists():
        raise RunError(
            given=f"{output} exists",
            rule="answers never overwrite a file",
            remedy="delete it, or name another --output",
        )


def _take(lock: int, output: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RunError(
            given=f"another process is writing {output}",
            rule="one process at a time writes a file of answers",
            remedy="wait for it or stop it, or give another --output",
        ) from error


def _unwritable(output: Path, error: OSError) -> RunError:
    return RunError(
        given=f"{output} cannot be written: {error.strerror}",
        rule="the output is a file in a folder that can be written",
        remedy="name another --output",
    )
