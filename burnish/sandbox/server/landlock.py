"""Landlock: the files that a process may use, whatever its user may. Kernel documentation: userspace-api/landlock."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

from burnish.sandbox.server.linux import syscall

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_VERSION = 1
NEEDED = 3
"""Version that level restricted needs: earlier ones let a program truncate any file of its user."""
_PATH_BENEATH = 1
_EXECUTE, _READ_FILE, _READ_DIR = 1, 4, 8
READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _READ_FILE | 2 | 1 << 14 | 1 << 15
"""Rights that a file that is no folder can have."""
_NUM_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""Rights of the first versions; later ones have 16."""


def version() -> int:
    """Version of the interface; 0: the kernel has none, or it is off."""
    try:
        return syscall(_CREATE, 0, 0, _VERSION)
    except OSError:
        return 0


def restrict(readable: Iterable[str], writable: Iterable[str]) -> None:
    """Restricts this process and its children to reading below some paths, and all uses below others. Takes away TCP,
    and signals and abstract sockets to processes outside, where the kernel can. Needs no_new_privs.

    Raises:
        OSError: Landlock is not available.
    """
    known = version()
    rights = (1 << _NUM_RIGHTS.get(known, 16)) - 1
    words = [rights, 3, 3] if known >= 6 else [rights, 3] if known >= 4 else [rights]
    attributes = (ctypes.c_uint64 * len(words))(*words)
    ruleset = syscall(_CREATE, attributes, ctypes.sizeof(attributes), 0)
    try:
        for path, allowed in [*((path, READ) for path in readable), *((path, rights) for path in writable)]:
            _allow(ruleset, path, allowed & rights)
        syscall(_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not os.path.isdir(path):
            rights &= _OF_FILES
        syscall(
            _ADD_RULE, ruleset, _PATH_BENEATH, ctypes.create_string_buffer(struct.pack("=Qi", rights, descriptor)), 0
        )
    finally:
        os.close(descriptor)
