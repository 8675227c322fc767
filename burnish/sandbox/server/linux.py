"""System calls of Linux that Python does not offer: namespaces, mounts, capabilities."""

from __future__ import annotations

import ctypes
import os
import platform

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 2, 4, 16384, 1 << 18
MNT_DETACH = 2
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV = 1, 2, 4
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 4
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # the same on all machines
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 22, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 36, 38, 47
_CAP_VERSION = 0x20080522
_LAST_CAPABILITY = 63

_libc = ctypes.CDLL(None, use_errno=True)


def syscall(number: int, *arguments: object) -> int:
    """Calls the kernel by number; raises OSError."""
    converted = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *converted))


def unshare(flags: int) -> None:
    """Gives this process (of NEWPID: its children) new namespaces."""
    _checked(_libc.unshare(ctypes.c_int(flags)))


def prctl(option: int, *arguments: int) -> int:
    """prctl(2)."""
    return _checked(_libc.prctl(ctypes.c_int(option), *(ctypes.c_ulong(value) for value in arguments)))


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2)."""
    texts = [text.encode() for text in (source, target, kind)]
    _checked(_libc.mount(*texts, ctypes.c_ulong(flags), data.encode() or None))


def unmount(target: str) -> None:
    """Detaches a mount."""
    _checked(_libc.umount2(target.encode(), MNT_DETACH))


def pivot_root(new: str, old: str) -> None:
    """Makes a mount the root; the earlier root is mounted at `old`."""
    syscall(_PIVOT_ROOT[platform.machine()], new.encode(), old.encode())


def clone_mount(descriptor: int, attributes: int) -> int:
    """A copy, not mounted yet, of the files below a descriptor, with the given attributes on all of its mounts."""
    tree = syscall(_OPEN_TREE, descriptor, b"", _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_EMPTY_PATH | _AT_RECURSIVE)
    _set_attributes(tree, b"", attributes, _AT_EMPTY_PATH | _AT_RECURSIVE)
    return tree


def place_mount(tree: int, target: str) -> None:
    """Mounts what `clone_mount` copied."""
    syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, target.encode(), _MOVE_MOUNT_F_EMPTY_PATH)


def make_read_only(path: str) -> None:
    """Makes one mount read-only."""
    _set_attributes(_AT_FDCWD, path.encode(), ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV, 0)


def drop_capabilities() -> None:
    """Gives up all capabilities, for good."""
    for capability in range(_LAST_CAPABILITY + 1):
        try:
            prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        except OSError:
            break  # the kernel has fewer, or this process has none to give up
    prctl(PR_CAP_AMBIENT, 4, 0, 0, 0)  # clear all
    header = (ctypes.c_uint32 * 2)(_CAP_VERSION, 0)
    _checked(_libc.capset(header, (ctypes.c_uint32 * 6)()))


def _set_attributes(descriptor: int, path: bytes, attributes: int, flags: int) -> None:
    structure = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    syscall(_MOUNT_SETATTR, descriptor, path, flags, structure, ctypes.sizeof(structure))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(result)
