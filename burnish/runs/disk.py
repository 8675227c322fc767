"""Errors of a full disk as user errors: bytes needed, bytes free, and what is kept.

Used around every large write of `burnish.runs`. Full means: no space, over quota, or over the file size limit.
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
    errno.EDQUOT: "; the quota of this user is used up, not the disk",
    errno.EFBIG: "; the file size limit is reached: see `ulimit -f`",
}
# safetensors has the system's error number only in its message.
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


@contextmanager
def full_disk_explained(place: Path, what: str, rule: str, needed: int | None = None) -> Iterator[None]:
    """Context manager that turns errors of a full disk into RunError; the block must remove its partial files itself.

    `what` is being written at `place`; `rule` says what is kept; `needed` is in bytes, None: unknown.
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
    """Whether an error is that of a full disk."""
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
