"""Durable writing that survives kill -9 and a power cut: a name is complete, or does not exist.

Used for all files of `burnish.runs`. Three hidden names exist next to a name X while it changes: ``.X.partial`` is
being written, ``.X.new`` is complete and about to replace X, ``.X.trash`` is about to be deleted. `repair` completes or
undoes an interrupted change, so that X is always the old or the new content, never a part.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Literal

_LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?P<state>partial|new|trash)")


def hidden(path: Path, state: Literal["partial", "new", "trash"]) -> Path:
    """Path of the hidden file next to `path`, ``.NAME.STATE``; the module says what the states mean."""
    return path.with_name(f".{path.name}.{state}")


def write_text(path: Path, text: str) -> None:
    """Writes a whole file, or leaves the old one."""
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
    """Renames a complete folder to its final name, replacing an existing folder."""
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
    """Deletes a folder; it is renamed first, so that a kill leaves no part of it under its name."""
    trash = hidden(path, "trash")
    os.rename(path, trash)
    sync_folder(path.parent)
    remove(trash)


def repair(parent: Path) -> None:
    """Completes or removes interrupted changes of the direct children of a folder."""
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
    """Deletes a file or a folder as far as possible; the next `repair` tries again."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Syncs the names in a folder to the disk."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def sync_tree(root: Path) -> None:
    """Syncs every file and every name below a folder to the disk."""
    for folder, _, files in os.walk(root):
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                _sync(path, os.O_RDONLY)
        sync_folder(Path(folder))


def share_files(root: Path) -> None:
    """Gives files the permissions of the user's umask, as the folder has them.

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
