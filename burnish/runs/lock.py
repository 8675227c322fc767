"""Lock of a run folder: one process at a time; the kernel releases it when that process ends in any way.

Acquired by `RunFolder.open` before anything else is written, held until the folder is closed.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import weakref
from pathlib import Path

from burnish.errors import RunError

_held: weakref.WeakSet[Lock] = weakref.WeakSet()


class Lock:
    """Exclusive lock on a file, which has the holder's process id and host for error messages."""

    def __init__(self, path: Path) -> None:
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.release()
            raise _refusal(path) from error
        except OSError:
            self.release()
            raise
        _held.add(self)

    def sign(self) -> None:
        """Writes the holder into the file. Separate from locking, so that a foreign file is not changed."""
        assert self._descriptor is not None, "only a holder signs"
        text = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + "\n"
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode(), 0)

    def release(self) -> None:
        """Releases the lock; a second call does nothing. The file is kept, since removing it would race with the next
        holder."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_locked(path: Path) -> bool:
    """Whether some process has the lock now. Tests with a shared lock, which does not block other tests."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _refusal(path: Path) -> RunError:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        owner = f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        # The holder has the lock and has not yet signed.
        owner = "another process"
    return RunError(
        given=f"the run folder {path.parent} is in use by {owner}",
        rule="one process at a time writes a run folder",
        remedy="wait for it or stop it, or give another --output",
    )


def _release_in_child() -> None:
    # A fork shares the lock: an orphaned data worker would hold it after kill -9 of the run. Closing a copy of the
    # descriptor does not unlock the parent's.
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_release_in_child)
