"""Eviction of the least recently used cache entries beyond the size limit.

Called by `cache` after each new entry. An entry that a process is building is not evicted; an entry that a process has
mapped may be, since mapped files stay readable after their names are deleted.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path

LOCK = ".lock"
"""Name of the file of an entry that is locked while the entry is built."""
_TRASH = ".trash-"
_SHARE = 0.1
"""Default limit of the cache, as a share of its disk."""
_GIB = 2**30


def limit(folder: Path) -> int:
    """Maximum bytes of the cache: $BURNISH_CACHE_GIB, else a tenth of the disk of the folder."""
    if chosen := os.environ.get("BURNISH_CACHE_GIB"):
        with suppress(ValueError):
            return int(float(chosen) * _GIB)
    return int(shutil.disk_usage(folder).total * _SHARE)


def mark_used(entry: Path) -> None:
    """Marks an entry as used now."""
    with suppress(OSError):  # a read-only cache
        os.utime(entry)


def evict(folder: Path, max_bytes: int, *, but: Path) -> list[Path]:
    """Removes entries, the least recently used first, until all have at most `max_bytes` bytes in total.

    Args:
        folder: folder of the entries.
        max_bytes: limit of their total size.
        but: entry that is never removed.

    Returns:
        The removed entries.
    """
    for trash in folder.glob(f"{_TRASH}*"):  # of a killed process
        shutil.rmtree(trash, ignore_errors=True)
    sizes = {entry: _size(entry) for entry in folder.iterdir() if entry.is_dir()}
    excess, removed = sum(sizes.values()) - max_bytes, list[Path]()
    for entry in sorted(sizes, key=_last_used):
        if excess <= 0:
            break
        if entry != but and _remove(entry):
            excess -= sizes[entry]
            removed.append(entry)
    return removed


def _last_used(entry: Path) -> float:
    with suppress(OSError):
        return entry.stat().st_mtime
    return 0.0  # another process has just removed it


def _size(entry: Path) -> int:
    total = 0
    for parent, _, names in os.walk(entry):
        for name in names:
            with suppress(OSError):
                total += os.stat(os.path.join(parent, name)).st_size
    return total


def _remove(entry: Path) -> bool:
    """Removes an entry unless a process is building it."""
    try:
        with (entry / LOCK).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Renamed first, so that no process begins an entry in a folder that is being deleted.
            trash = entry.with_name(f"{_TRASH}{entry.name}-{os.getpid()}")
            os.rename(entry, trash)
            shutil.rmtree(trash)
    except OSError:
        return False
    return True
