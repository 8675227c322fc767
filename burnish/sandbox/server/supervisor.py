"""Process beside each program: makes its namespaces, starts it, kills it when its time is over, and reports its end.

It is outside of the program's namespaces and is gone when the program is. If the caller closes the report, or ends, the
program is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from burnish.sandbox.server import guest, linux, root

_POLL = 0.05
"""Seconds between looks at the processor time of a program."""


@dataclass(frozen=True, slots=True)
class Place:
    """What all programs of a server have in common."""

    isolated: bool
    proc: int
    """Descriptor of /proc, which is not in the root; -1: not isolated."""
    readable: tuple[str, ...]
    devices: tuple[str, ...]


def supervise(job: Mapping[str, Any], report: socket.socket, descriptors: list[int], place: Place) -> None:
    """Runs a job in a fork of this process, which is a fork of the server; ends this process.

    Args:
        job: the request, see `main`.
        report: gets the pid of the program, then its end, as lines of JSON.
        descriptors: those of the program, see `guest.enter`.
        place: what all programs have in common.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    home = root.HOME
    try:
        if place.isolated:
            _isolate(job["limits"]["file"], place.proc)
        else:
            home = tempfile.mkdtemp(prefix="sandbox-")
            if sys.platform == "linux":
                linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
        pid = os.fork()
    except OSError as error:
        _send(report, {"failed": f"the sandbox could not be made: {error}"})
        os._exit(1)
    if pid == 0:
        guest.enter(job, descriptors, home, place.readable, place.devices)
    for descriptor in descriptors:
        os.close(descriptor)
    try:
        _send(report, {"pid": pid})
        _send(report, _wait(pid, job["limits"], report))
    finally:
        if not place.isolated:
            _kill_all(pid)
            shutil.rmtree(home, ignore_errors=True)
        os._exit(0)


def _isolate(file_bytes: int, proc: int) -> None:
    """Gives the next child a process table, and this process a user and a mount namespace with an empty home."""
    user, group = os.geteuid(), os.getegid()
    linux.unshare(linux.NEWUSER | linux.NEWNS | linux.NEWPID)
    map_user(user, group, proc)
    os.close(proc)
    root.mount_home(file_bytes)


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


def _wait(pid: int, limits: Mapping[str, float], report: socket.socket) -> dict[str, Any]:
    """Waits for the end of the program, kills it if need be, and tells how it ended."""
    begun = time.monotonic()
    timeout = False
    watched = select.poll()
    watched.register(report, select.POLLIN | select.POLLHUP)
    ended = _end_descriptor(pid)
    if ended >= 0:
        watched.register(ended, select.POLLIN)
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            break
        ready = {descriptor for descriptor, _ in watched.poll(1000 * _POLL)}
        wall = time.monotonic() - begun
        timeout = wall > limits["wall"] or cpu_seconds(pid) > limits["cpu_soft"]
        if timeout or report.fileno() in ready:
            _kill(pid)
            _, status, usage = os.wait4(pid, 0)
            break
    return {
        "status": status,
        "timeout": timeout or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU),
        "cpu": usage.ru_utime + usage.ru_stime,
        "wall": time.monotonic() - begun,
        "memory": usage.ru_maxrss,
    }


def cpu_seconds(pid: int) -> float:
    """Processor seconds of a process that runs; 0 where that is not known."""
    try:
        return time.clock_gettime(~pid << 3 | 2)  # the kernel's number of the clock of a process
    except (OSError, OverflowError):
        return 0.0


def _end_descriptor(pid: int) -> int:
    """Descriptor that is readable when the process has ended; -1: there is none here."""
    with contextlib.suppress(AttributeError, OSError):
        return os.pidfd_open(pid)
    return -1


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _kill_all(pid: int) -> None:
    """Kills what a program without a process table of its own has left behind: its group, and on Linux all of its
    descendants, which this process inherits."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    while True:
        for child in _children():
            _kill(child)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    try:
        with open(f"/proc/{os.getpid()}/task/{os.getpid()}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def _send(report: socket.socket, message: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the caller has left
        report.sendall(json.dumps(message).encode() + b"\n")
