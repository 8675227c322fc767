"""System calls of Linux that Python does not offer: namespaces, mounts, capabilities."""

from __future__ import annotations

import ctypes
import os
import platform
import signal

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 2, 4, 16384, 1 << 18
MNT_DETACH = 2
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV = 1, 2, 4
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 4
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # the same on all machines
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP = 1, 4, 22
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 36, 38, 47
_CAP_VERSION = 0x20080522

_CLONE = {"x86_64": 56, "aarch64": 220}
_libc = ctypes.CDLL(None, use_errno=True)
_without_release = ctypes.PyDLL(None, use_errno=True)


def syscall(number: int, *arguments: object) -> int:
    """Calls the kernel by number; raises OSError."""
    converted = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *converted))


def unshare(flags: int) -> None:
    """Gives this process (of NEWPID: its children) new namespaces."""
    _checked(_libc.unshare(ctypes.c_int(flags)))


def clone(flags: int) -> int:
    """Forks this process, which must have one thread, into new namespaces; 0 in the child, in the parent its pid.

    Handlers of `os.register_at_fork` are not called.
    """
    arguments = (ctypes.c_long(flags | signal.SIGCHLD), *(ctypes.c_long(0),) * 4)
    return _checked(_without_release.syscall(ctypes.c_long(_CLONE[platform.machine()]), *arguments))


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


def map_user(user: int, group: int, proc: int) -> None:
    """Makes the user of before the user inside of a new user namespace.

    Args:
        user: its number outside and inside.
        group: likewise.
        proc: descriptor of /proc.
    """
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        descriptor = os.open(f"self/{name}", os.O_WRONLY, dir_fd=proc)
        os.write(descriptor, text.encode())
        os.close(descriptor)


def drop_capabilities() -> None:
    """Gives up all capabilities, for good: without new privileges, no program gives any back."""
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
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
