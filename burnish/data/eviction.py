"""What leaves the cache when it grows too large: the entries that were not used for the longest time.

Under `cache`, which calls it after each new entry. An entry that a process is making is left alone; one that a process
has mapped may go, since mapped files stay readable after their names are gone.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path

LOCK = ".lock"
"""The file of an entry that is locked while the entry is made."""
_TRASH = ".trash-"
_SHARE = 0.1
"""Of the disk, what the cache may fill unless it is told otherwise."""
_GIB = 2**30


def limit(folder: Path) -> int:
    """Most bytes of the cache: $BURNISH_CACHE_GIB, else a tenth of the disk that the folder is on."""
    if chosen := os.environ.get("BURNISH_CACHE_GIB"):
        with suppress(ValueError):
            return int(float(chosen) * _GIB)
    return int(shutil.disk_usage(folder).total * _SHARE)


def mark_used(entry: Path) -> None:
    """Says that an entry is of use now."""
    with suppress(OSError):  # a cache that can only be read
        os.utime(entry)


def evict(folder: Path, most: int, *, but: Path) -> list[Path]:
    """Removes entries, those unused for the longest time first, until all have at most so many bytes together.

    Args:
        folder: its folders are the entries.
        but: the entry that stays, whatever its size.

    Returns:
        What was removed.
    """
    for trash in folder.glob(f"{_TRASH}*"):  # of a process that was killed
        shutil.rmtree(trash, ignore_errors=True)
    sizes = {entry: _size(entry) for entry in folder.iterdir() if entry.is_dir()}
    excess, removed = sum(sizes.values()) - most, list[Path]()
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
    for place, _, names in os.walk(entry):
        for name in names:
            with suppress(OSError):
                total += os.stat(os.path.join(place, name)).st_size
    return total


def _remove(entry: Path) -> bool:
    """Removes an entry unless a process is making it."""
    try:
        with (entry / LOCK).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Out of the way first: nobody can begin an entry in a folder that is going.
            trash = entry.with_name(f"{_TRASH}{entry.name}-{os.getpid()}")
            os.rename(entry, trash)
            shutil.rmtree(trash)
    except OSError:
        return False
    return True
