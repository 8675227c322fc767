"""Names that are paths, the existing path that a misspelt one is nearest to, and the folder of the cache.

Models and data are named by a path or by a name on the hub. A name that looks like a path is never looked up there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

_CUTOFF = 0.6
"""Smallest similarity of a name that is suggested, 0 to 1 (`difflib`): about one letter in three may differ."""


def cache_folder() -> Path:
    """Returns the cache folder: $BURNISH_CACHE, else burnish in the user's cache folder."""
    if chosen := os.environ.get("BURNISH_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "burnish"


def looks_like_path(name: str, endings: Sequence[str] = ()) -> bool:
    """Whether a name can only be a path: by its beginning, its ending, its depth, or since its first folder exists.

    Args:
        name: as the user wrote it.
        endings: endings of the names of files, in lower case.
    """
    first, slash, _ = name.partition("/")
    return (
        name.startswith((".", "/", "~"))
        or name.endswith("/")
        or name.lower().endswith(tuple(endings))
        or name.count("/") > 1
        or (bool(slash) and os.path.isdir(first))
    )


def nearest_path(name: str, *, folders: bool = False) -> str | None:
    """The existing path with the most similar name; None: there is none that is similar enough.

    Args:
        name: a path that does not exist. Each of its parts that does not exist is replaced by the most similar name in
            its folder.
        folders: True: only folders are suggested.

    Example: ``nearest_path("runs/lroa")`` is ``runs/lora``.
    """
    written = Path(name)
    path = Path(written.anchor)
    parts = written.parts[len(path.parts) :]
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        near = part if os.path.exists(_expanded(path / part)) else _nearest_name(part, path, folders or not is_last)
        if near is None:
            return None
        path = path / near
    is_other = parts and path != written and (os.path.isdir(_expanded(path)) or not folders)
    return f"{'./' if name.startswith('./') else ''}{path}" if is_other else None


def _nearest_name(part: str, folder: Path, folders: bool) -> str | None:
    """The most similar name in a folder, with or without its ending; hidden ones aside."""
    try:
        entries = [entry for entry in _expanded(folder).iterdir() if entry.is_dir() or not folders]
    except OSError:
        return None
    names = sorted(entry.name for entry in entries if entry.name.startswith(".") == part.startswith("."))
    written = {name.partition(".")[0]: name for name in names} | {name: name for name in names}
    near = get_close_matches(part, written, n=1, cutoff=_CUTOFF)
    return written[near[0]] if near else None


def _expanded(path: Path) -> Path:
    """Expands ~. Unlike Path.expanduser, it leaves unknown users unchanged."""
    return Path(os.path.expanduser(path))
