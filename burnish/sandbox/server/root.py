"""File system of the sandbox: a read-only root with the interpreter and the system's libraries, and an empty folder.

The server moves into the root once; each program gets an empty file system of its own at `HOME`.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from burnish.sandbox.server import linux

HOME = "/sandbox"
"""Home, current and temporary folder of a program; the only one that it may write to."""
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = ("/etc/ld.so.cache", "/etc/localtime")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_PASSWD = "nobody:x:65534:65534:nobody:/tmp:/bin/sh\n"


def interpreter_paths(packages: Sequence[str]) -> tuple[str, ...]:
    """Folders of this interpreter and of the packages, without those inside of others."""
    paths = [sys.base_prefix, sys.prefix, os.path.dirname(os.path.realpath(sys.executable)), *packages]
    real = sorted({os.path.realpath(path) for path in paths} | {os.path.abspath(path) for path in paths})
    kept: list[str] = []
    for path in real:
        if os.path.isdir(path) and path != "/" and not any(_within(path, other) for other in (*kept, "/usr")):
            kept.append(path)
    return tuple(kept)


def readable_paths(packages: Sequence[str]) -> tuple[str, ...]:
    """All paths that a program may read, as they are outside."""
    return (*_SYSTEM, *_ETC, *interpreter_paths(packages))


def writable_devices() -> tuple[str, ...]:
    """Devices that a program may use."""
    return _DEVICES


def enter(packages: Sequence[str]) -> None:
    """Moves this process into a root with the system's folders and those of the interpreter and its packages. It must
    have a mount namespace of its own.

    Raises:
        OSError: a mount is not allowed.
    """
    linux.mount("none", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    paths = readable_paths(packages)
    links = {path: os.readlink(path) for path in _SYSTEM if os.path.islink(path)}
    if not any(_within(path, "/tmp") for path in paths):
        links["/tmp"] = HOME
    copies = {path: _clone(path) for path in (*paths, *_DEVICES) if path not in links}
    base = "/tmp"  # any folder serves: it is covered by the new root, and left
    linux.mount("tmpfs", base, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755,size=1m")
    for path, target in links.items():
        os.symlink(target, base + path)
    for path, copy in copies.items():
        if copy is not None:
            tree, is_folder = copy
            _make_place(base + path, folder=is_folder)
            linux.place_mount(tree, base + path)
            os.close(tree)
    _write(base + "/etc/passwd", _PASSWD)
    for folder in (base + HOME, base + "/.old"):
        os.makedirs(folder, exist_ok=True)
    linux.pivot_root(base, base + "/.old")
    os.chdir("/")
    linux.unmount("/.old")
    os.rmdir("/.old")
    linux.make_read_only("/")


def make_reachable(packages: Sequence[str]) -> None:
    """Lets any user reach the interpreter where a folder above it is closed to others (``/root``).

    The folder is covered by one that holds nothing else. This process must have a mount namespace of its own.

    Raises:
        OSError: a mount is not allowed.
    """
    linux.mount("none", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    closed = {path: folder for path in interpreter_paths(packages) if (folder := _closed_above(path)) is not None}
    copies = {path: _clone(path) for path in closed}
    for folder in sorted(set(closed.values())):
        linux.mount("tmpfs", folder, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755,size=1m")
    for path, copy in copies.items():
        if copy is not None:
            tree, is_folder = copy
            _make_place(path, folder=is_folder)
            linux.place_mount(tree, path)
            os.close(tree)


def unreadable(packages: Sequence[str]) -> str | None:
    """A folder of the interpreter that this process may not read; None: there is none."""
    return next((path for path in interpreter_paths(packages) if not os.access(path, os.R_OK | os.X_OK)), None)


def _closed_above(path: str) -> str | None:
    """The highest folder above a path that others may not enter; None: they may enter all."""
    above = [str(folder) for folder in reversed(Path(path).parents)]
    return next((folder for folder in above if not os.stat(folder).st_mode & stat.S_IXOTH), None)


def _clone(path: str) -> tuple[int, bool] | None:
    """Read-only copy of what is mounted below a path, and whether it is a folder; None: there is nothing."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        flags = linux.ATTR_RDONLY | linux.ATTR_NOSUID | (0 if path in _DEVICES else linux.ATTR_NODEV)
        return linux.clone_mount(descriptor, flags), os.path.isdir(path)
    finally:
        os.close(descriptor)


def mount_home(size: int) -> None:
    """Mounts an empty file system at `HOME`, with place for `size` bytes."""
    data = f"mode=700,size={size},nr_inodes={max(64, size >> 12)}"
    linux.mount("tmpfs", HOME, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, data)


def _make_place(path: str, *, folder: bool) -> None:
    if folder:
        os.makedirs(path, exist_ok=True)
    else:
        _write(path, "")


def _write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
