"""A full disk, told as a user's error: how much is needed, how much is free, what is safe.

Around every write of `burnish.runs` that can be large. Full means: no space, over quota, or over the limit on the size
of one file.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from burnish.errors import RunError

_HINTS = {
    errno.ENOSPC: "",
    errno.EDQUOT: "; it is your quota that is used up, not the disk",
    errno.EFBIG: "; the limit is on the size of one file here: see `ulimit -f`",
}
# safetensors keeps the number of the system's error only in the text of its own.
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


@contextmanager
def full_disk_explained(place: Path, what: str, rule: str, needed: int | None = None) -> Iterator[None]:
    """Turn a full disk inside the block into a RunError. The block must have removed its own leavings by then.

    `what` is being written at `place`; `rule` says what is safe; `needed` is in bytes, None: unknown.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        code = _code(error)
        if code is None or code not in _HINTS:
            raise
        size = "" if needed is None else f"{_amount(needed)} needed, "
        given = f"{what} could not be written to {place}: {os.strerror(code)} ({size}{_free(place)} free there)"
        remedy = f"free space and run the same command again{_HINTS[code]}"
        raise RunError(given, rule, remedy) from error


def is_full(error: OSError) -> bool:
    """Whether an error says that no more can be written there."""
    return error.errno in _HINTS


def _code(error: OSError | SafetensorError) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    match = _OS_ERROR.search(str(error))
    return int(match[1]) if match else None


def _free(place: Path) -> str:
    existing = next(path for path in (place, *place.parents) if path.exists())
    return _amount(shutil.disk_usage(existing).free)


def _amount(size: int) -> str:
    return f"{size:,} bytes"
