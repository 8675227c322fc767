"""Seccomp filter: the system calls that a program may make.

A call that is not in a list fails with EPERM, so a program sees an error; one that no program needs kills it, which its
exit status tells. The filter is a program for the kernel's packet filter (linux/filter.h, linux/seccomp.h).
"""

from __future__ import annotations

import ctypes
import platform
import struct
from collections.abc import Sequence

from burnish.sandbox.server import linux
from burnish.sandbox.server.syscall_table import ALLOWED, CHECKED, FATAL, numbers

_AUDIT_ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = _ERRNO | 1, _ERRNO | 38
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
_X32 = 0x40000000
_CLONE_THREAD = 0x10000
_NEW_NAMESPACES = 0x7E020000
_PRCTL = (15, 16, 0x53564D41)
"""PR_SET_NAME, PR_GET_NAME, PR_SET_VMA."""
_FORBIDDEN_IOCTL = (0x5412, 0x541C, 0x8901, 0x8902)
"""TIOCSTI and TIOCLINUX, which type into a terminal; FIOSETOWN and SIOCSPGRP, which let the kernel signal others."""
_FORBIDDEN_FCNTL = (8, 10, 15, 1024, 1026)
"""F_SETOWN, F_SETSIG, F_SETOWN_EX: as FIOSETOWN; F_SETLEASE, F_NOTIFY: they concern files of others."""
_LOCAL, _STREAM, _PACKETS = 1, 1, 5
"""AF_UNIX; SOCK_STREAM and SOCK_SEQPACKET: unlike datagrams, they cannot be sent to an address."""
_SETS_MODE_FILTER = 2

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, operand."""


def supported() -> bool:
    """Whether this machine's calls are known, and its kernel has filters."""
    if platform.system() != "Linux" or platform.machine() not in _AUDIT_ARCHES:
        return False
    try:
        linux.prctl(linux.PR_SET_SECCOMP, _SETS_MODE_FILTER, 0, 0, 0)  # a null filter: EFAULT where filters exist
    except OSError as error:
        return error.errno == 14
    return False


def build(*, own_pid: int, processes: bool) -> bytes:
    """The filter.

    Args:
        own_pid: the only process that a program without others may signal.
        processes: whether it may start processes and programs.
    """
    machine = platform.machine()
    checked = numbers(CHECKED, machine)
    program: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, _AUDIT_ARCHES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        program += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
    rules = {
        "clone": _clone(processes=processes),
        "prctl": _argument(0, _PRCTL),
        "prlimit64": _argument(0, (0, own_pid)),
        "ioctl": _without(1, _FORBIDDEN_IOCTL),
        "fcntl": _without(1, _FORBIDDEN_FCNTL),
        "socketpair": _pair_of_streams(),
    }
    allowed = [number for name, number in numbers(ALLOWED, machine).items() if name not in rules]
    program += _results(allowed, _ALLOW) + _results(list(numbers(FATAL, machine).values()), _KILL)
    program += _results([checked["clone3"]], _ENOSYS)  # its flags cannot be read here: the C library then uses clone
    started = ("fork", "vfork", "execve", "execveat")
    signals = ("kill", "tgkill")
    if processes:
        program += _results([checked[name] for name in (*started, *signals) if name in checked], _ALLOW)
    else:
        rules |= {name: _argument(0, (own_pid,)) for name in signals}
    table = {**checked, **numbers(ALLOWED, machine)}
    for name, rule in rules.items():
        program += [(_EQUAL, 0, len(rule), table[name]), *rule]
    program.append((_RETURN, 0, 0, _EPERM))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def install(program: bytes) -> None:
    """Installs a filter for this process and its children, for good. Needs no_new_privs."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    structure = ctypes.create_string_buffer(header, len(header))
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    linux.prctl(linux.PR_SET_SECCOMP, _SETS_MODE_FILTER, ctypes.addressof(structure), 0, 0)


def _results(called: Sequence[int], result: int) -> list[Instruction]:
    return [step for number in called for step in ((_EQUAL, 0, 1, number), (_RETURN, 0, 0, result))]


def _argument(place: int, values: Sequence[int]) -> list[Instruction]:
    """Allows a call if an argument is one of some values."""
    return [(_LOAD, 0, 0, _ARGUMENTS + 8 * place), *_results(values, _ALLOW), (_RETURN, 0, 0, _EPERM)]


def _without(place: int, values: Sequence[int]) -> list[Instruction]:
    """Allows a call unless an argument is one of some values."""
    return [(_LOAD, 0, 0, _ARGUMENTS + 8 * place), *_results(values, _EPERM), (_RETURN, 0, 0, _ALLOW)]


def _pair_of_streams() -> list[Instruction]:
    """Allows a pair of connected local sockets that reach nobody else."""
    return [
        (_LOAD, 0, 0, _ARGUMENTS),
        (_EQUAL, 1, 0, _LOCAL),
        (_RETURN, 0, 0, _EPERM),
        (_LOAD, 0, 0, _ARGUMENTS + 8),
        (_AND, 0, 0, 0xF),
        *_results((_STREAM, _PACKETS), _ALLOW),
        (_RETURN, 0, 0, _EPERM),
    ]


def _clone(*, processes: bool) -> list[Instruction]:
    """Threads are allowed, processes where they may be started, new namespaces never."""
    other = _ALLOW if processes else _EPERM
    return [
        (_LOAD, 0, 0, _ARGUMENTS),
        (_ANY_BIT, 0, 1, _NEW_NAMESPACES),
        (_RETURN, 0, 0, _KILL),
        (_ANY_BIT, 0, 1, _CLONE_THREAD),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, other),
    ]
