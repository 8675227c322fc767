"""Watches the programs of a server: starts each in namespaces of its own, kills it when its time is over or its caller
has left, and reports its end."""

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
from dataclasses import dataclass, field
from typing import Any

from burnish.sandbox.server import guest, linux, root
from burnish.sandbox.server.place import Place

REMOVE = 'chmod -R u+rwX -- "$0"; rm -rf -- "$0"'
"""Command of the shell that removes a folder of this user, whatever a program has put into it."""
LOOK = 0.05
"""Seconds between looks at the processor time of programs."""
_LOOK_FOR_LEFT = 0.002
"""Seconds between looks at processes that were left behind and killed, while reports wait for their end."""
_WAIT_FOR_LEFT = 2.0
"""Seconds that the report of a program waits at most for the end of processes that were left behind."""


@dataclass(eq=False, slots=True)
class Running:
    """A program that runs."""

    pid: int
    limits: Mapping[str, float]
    report: socket.socket
    home: str | None
    """Folder to remove when it has ended; None: it goes with the namespace."""
    ended: int
    """Descriptor that is readable when it has ended; -1: there is none here."""
    begun: float = field(default_factory=time.monotonic)
    timeout: bool = False
    """Whether it was killed because its time was over."""


@dataclass(eq=False, slots=True)
class Ended:
    """A program that has ended and is not reported yet."""

    report: socket.socket
    end: Mapping[str, Any]
    due: float = field(default_factory=lambda: time.monotonic() + _WAIT_FOR_LEFT)
    """When it is reported at the latest."""


class Supervisor:
    """The programs of a server that run.

    Args:
        place: what all programs have in common.
        features: what confines them, see `guest.enter`.
    """

    def __init__(self, place: Place, features: Mapping[str, bool]) -> None:
        self._place = place
        self._features = features
        self._running: dict[int, Running] = {}
        self._ended: list[Ended] = []
        self._removing: set[int] = set()
        """Processes that remove folders."""
        self._strays = False
        """Whether there were processes that programs had left behind: their children come when they have ended."""
        self.folder = None if place.isolated else tempfile.mkdtemp(prefix="sandbox-")
        """Holds the folders of the programs; None: they have file systems of their own."""
        if sys.platform == "linux":
            linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)

    def start(self, job: Mapping[str, Any], report: socket.socket, descriptors: list[int]) -> None:
        """Starts a program and reports its pid.

        Args:
            job: the request, see `main`.
            report: gets the pid of the program, then its end, as lines of JSON.
            descriptors: those of the program, see `guest.enter`; the caller of this closes them.
        """
        home = None
        try:
            home = None if self.folder is None else tempfile.mkdtemp(dir=self.folder)
            pid = _fork(isolated=self._place.isolated)
        except OSError as error:
            _send(report, {"failed": f"the sandbox could not be made: {error}"})
            report.close()
            return
        if pid == 0:
            guest.enter({**job, **self._features}, descriptors, home or root.HOME, self._place)
        _send(report, {"pid": pid})
        self._running[pid] = Running(pid, job["limits"], report, home, _end_descriptor(pid))

    def wait(self, caller: int) -> bool:
        """Waits until there is something to do, and does it. Whether the caller wants something.

        Args:
            caller: descriptor on which requests come.
        """
        watched = {caller: None}
        for program in self._running.values():
            watched |= dict.fromkeys((program.report.fileno(), *([program.ended] if program.ended >= 0 else [])))
        poll = select.poll()
        for descriptor in watched:
            poll.register(descriptor, select.POLLIN)
        watching = self._running or self._removing or self._strays
        seconds = _LOOK_FOR_LEFT if self._ended else LOOK if watching else None
        ready = {descriptor for descriptor, _ in poll.poll(None if seconds is None else 1000 * seconds)}
        for program in self._running.values():
            self._look(program, left=program.report.fileno() in ready)
        self._reap()
        return caller in ready

    def close(self) -> None:
        """Kills all programs."""
        for program in self._running.values():
            _kill(program.pid)
        while self._running or self._removing:
            self._reap(block=True)
        if self.folder is not None:
            self._removing.add(_remove(self.folder))
            while self._removing:
                self._reap(block=True)
        self._report(all_of_them=True)

    def _look(self, program: Running, *, left: bool) -> None:
        """Kills a program whose time is over, or whose caller has left."""
        wall = time.monotonic() - program.begun
        over = wall > program.limits["wall"] or cpu_seconds(program.pid) > program.limits["cpu_soft"]
        if over or left:
            program.timeout = program.timeout or over
            _kill(program.pid)

    def _reap(self, *, block: bool = False) -> None:
        """Reaps programs that have ended. What they left behind, this process inherits and kills.

        A program is reported when nothing that was left behind runs any longer: otherwise the next one could still
        meet it.
        """
        options = 0 if block else os.WNOHANG
        while True:
            try:
                pid, status, usage = os.wait4(-1, options)
            except ChildProcessError:
                break
            if pid == 0:
                break
            self._removing.discard(pid)
            program = self._running.pop(pid, None)
            if program is not None:
                self._finish(program, status, usage.ru_utime + usage.ru_stime)
            options = os.WNOHANG
        if not self._place.isolated:
            strays = [child for child in _children() if child not in self._running and child not in self._removing]
            for child in strays:
                _kill(child)
            self._strays = bool(strays)
        self._report()

    def _report(self, *, all_of_them: bool = False) -> None:
        now = time.monotonic()
        held = [] if all_of_them or not self._strays else [ended for ended in self._ended if now < ended.due]
        for ended in self._ended:
            if ended not in held:
                _send(ended.report, ended.end)
                ended.report.close()
        self._ended = held

    def _finish(self, program: Running, status: int, cpu: float) -> None:
        used_up = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU
        wall = time.monotonic() - program.begun
        end = {"status": status, "timeout": program.timeout or used_up, "cpu": cpu, "wall": wall}
        if program.home is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(program.pid, signal.SIGKILL)
            try:
                os.rmdir(program.home)  # most are empty
            except OSError:
                self._removing.add(_remove(program.home))
        self._ended.append(Ended(program.report, end))
        if program.ended >= 0:
            os.close(program.ended)


def cpu_seconds(pid: int) -> float:
    """Processor seconds of a process that runs; 0 where that is not known."""
    try:
        return time.clock_gettime(~pid << 3 | 2)  # the kernel's number of the clock of a process
    except (OSError, OverflowError):
        return 0.0


def _fork(*, isolated: bool) -> int:
    """Forks; where programs are isolated, into a user, a mount and a process namespace of its own."""
    return linux.clone(linux.NEWUSER | linux.NEWNS | linux.NEWPID) if isolated else os.fork()


def _end_descriptor(pid: int) -> int:
    with contextlib.suppress(AttributeError, OSError):
        return os.pidfd_open(pid)
    return -1


def _remove(folder: str) -> int:
    """Removes a folder, whatever a program has put into it, in a process of its own."""
    pid = os.fork()
    if pid == 0:
        try:
            os.execv("/bin/sh", ["sh", "-c", REMOVE, folder])
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os._exit(0)
    return pid


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _children() -> list[int]:
    try:
        with open(f"/proc/{os.getpid()}/task/{os.getpid()}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def _send(report: socket.socket, message: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the caller has left
        report.sendall(json.dumps(message).encode() + b"\n")
