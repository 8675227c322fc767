"""Writing that survives kill -9 and a power cut: a name stands for something whole, or does not exist.

Under everything that `burnish.runs` writes. Three hidden names stand beside a name X while it changes:
``.X.partial`` is being written, ``.X.new`` is whole and about to become X, ``.X.trash`` is about to vanish. `repair`
finishes or undoes whatever a kill left behind, so that at any moment X is the old or the new, never half of one.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Literal

_LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?P<state>partial|new|trash)")


def hidden(path: Path, state: Literal["partial", "new", "trash"]) -> Path:
    """The name beside `path` under which it is written, waits, or is deleted."""
    return path.with_name(f".{path.name}.{state}")


def write_text(path: Path, text: str) -> None:
    """Write a whole file, or leave the old one."""
    partial = hidden(path, "partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


def publish(partial: Path, final: Path) -> None:
    """Give a wholly written folder its name, in place of the folder that may have it."""
    sync_tree(partial)
    if final.exists():
        fresh = hidden(final, "new")
        os.rename(partial, fresh)
        sync_folder(final.parent)
        _roll_forward(fresh, final)
    else:
        os.rename(partial, final)
        sync_folder(final.parent)


def discard(path: Path) -> None:
    """Delete a folder; its name is gone at once, so that a kill leaves no half of it under that name."""
    trash = hidden(path, "trash")
    os.rename(path, trash)
    sync_folder(path.parent)
    remove(trash)


def repair(parent: Path) -> None:
    """Finish what was whole, remove what was half, among the direct children of a folder."""
    for state in ("new", "partial", "trash"):
        for child in sorted(parent.iterdir()):
            match = _LEFTOVER.fullmatch(child.name)
            if match is None or match["state"] != state:
                continue
            if state == "new":
                _roll_forward(child, parent / match["name"])
            else:
                remove(child)


def remove(path: Path) -> None:
    """Delete a file or a folder, as far as it can be; the next `repair` tries again."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Bring the names in a folder to the disk."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def sync_tree(root: Path) -> None:
    """Bring every file and every name below a folder to the disk."""
    for folder, _, files in os.walk(root):
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                _sync(path, os.O_RDONLY)
        sync_folder(Path(folder))


def share_files(root: Path) -> None:
    """Give files the access that the user's umask gives, which the folder itself shows.

    safetensors 0.8 writes through a temporary file that only its owner may read (0600), whatever the umask.
    """
    for folder, _, files in os.walk(root):
        mode = os.stat(folder).st_mode & 0o666
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | mode)


def _roll_forward(fresh: Path, final: Path) -> None:
    trash = hidden(final, "trash")
    if final.exists():
        remove(trash)
        os.rename(final, trash)
        sync_folder(final.parent)
    os.rename(fresh, final)
    sync_folder(final.parent)
    remove(trash)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
