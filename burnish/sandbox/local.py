"""Engine on this machine: a fork server, and sandboxed processes that it starts.

    with LocalEngine(Level.ISOLATED) as engine:
        engine.run("print(input())", b"hello", Limits()).stdout                              # b"hello\\n"
        suite = TestSuite((AssertTest("assert add(1, 2) == 3"),))
        engine.test("def add(a, b): return a + b", suite, Limits())                          # [passed]

Tests run in a process of their own beside that of the program (`server.tester`, `server.candidate`), or, if they are
texts for standard input, here: the program's process never has them.
"""

from __future__ import annotations

import json
import math
import os
import socket
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any, Self

from burnish.sandbox.base import MIB, Completed, Level, Limits, SandboxError, TestResult
from burnish.sandbox.box import Box, close_all, collect
from burnish.sandbox.fork_server import ForkServer
from burnish.sandbox.paired import run_paired
from burnish.sandbox.server.exchange import ClosedError, receive, send
from burnish.sandbox.session import Session
from burnish.sandbox.stdin_tests import run_stdin_tests
from burnish.sandbox.testers import Testers
from burnish.sandbox.tests import StdinTest, TestSuite

_ATTEMPTS = 3
"""Times that a process is asked for if the server ends before it begins."""


class LocalEngine:
    """Runs programs at a level on this machine. A context manager; it starts its server when it is first used.

    Args:
        level: what it must promise.
        seed: of hashing of text, and so of the order of sets.

    Raises:
        UserError: entering it: the machine does not offer the level.
    """

    def __init__(self, level: Level = Level.ISOLATED, *, seed: int = 0) -> None:
        self._level = level
        self._seed = seed
        self.testers = Testers()
        self._server: ForkServer | None = None
        self._lock = threading.Lock()

    @property
    def level(self) -> Level:
        return self._level

    def __enter__(self) -> Self:
        self._started()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the server. Programs that run are killed when their callers close them."""
        self.testers.close()
        with self._lock:
            if self._server is not None:
                self._server.close()
                self._server = None

    def run(self, program: str, stdin: bytes, limits: Limits) -> Completed:
        """Runs a Python program as a script; see `Engine`."""
        return self._run("script", {"program": program}, stdin, limits)

    def run_command(self, command: str, stdin: bytes, limits: Limits) -> Completed:
        """Runs a command of the shell, with programs of the system.

        Raises:
            SandboxError: it could not be run.
        """
        return self._run("command", {"command": command}, stdin, limits)

    def test(self, program: str, suite: TestSuite, limits: Limits, *, stop_early: bool = True) -> Sequence[TestResult]:
        """Verdicts of the tests of a suite; see `Engine`."""
        if isinstance(suite.tests[0], StdinTest):
            return run_stdin_tests(self, program, suite, limits, stop_early=stop_early)
        return run_paired(self, program, suite, limits, stop_early=stop_early)

    def session(self, limits: Limits) -> Session:
        """An interpreter whose state is kept between calls; its owner closes it.

        Args:
            limits: of each call; ``total_seconds`` is the life of the session.
        """
        with open(os.devnull, "r+b") as null:
            box = self.box("session", limits, [null.fileno()] * 3, wall=limits.total_seconds)
        return Session(box, limits)

    def box(
        self,
        mode: str,
        limits: Limits,
        streams: Sequence[int],
        *,
        wall: float,
        cpu: float = math.inf,
        control: socket.socket | None = None,
    ) -> Box:
        """Starts a sandboxed process.

        Args:
            mode: what it does, see `server.main`.
            limits: of memory, files, processes.
            streams: descriptors of its standard input, output and error.
            wall: seconds by the clock.
            cpu: processor seconds; infinity: as `wall`.
            control: its end of a channel to another process; None: to the caller.

        Raises:
            SandboxError: the server cannot be reached.
        """
        cpu = min(cpu, wall)
        given = {
            "memory": limits.memory_mib * MIB,
            "cpu": math.ceil(cpu) + 1,
            "cpu_soft": cpu,
            "wall": wall,
            "file": limits.file_mib * MIB,
            "output": limits.output_bytes,
            "processes": limits.processes,
            "threads": limits.threads,
            "open_files": limits.open_files,
        }
        if limits.processes > 1 and self._level is Level.RESTRICTED:
            raise SandboxError("at level restricted a program may have one process only: processes: 1, or isolated")
        request = json.dumps({"mode": mode, "limits": given}).encode()
        for _ in range(_ATTEMPTS):
            server = self._started()
            box = self._ask(server, request, streams, control, wall, given["cpu"])
            if self._begun(box):
                return box
            box.close()
            self._forget(server)
        raise SandboxError("the server of the sandbox ended before it began the program")

    def _begun(self, box: Box) -> bool:
        """Waits until the supervisor has reported the start."""
        try:
            while box.pid is None:
                if not box.read_report():
                    return False
        except SandboxError:
            box.close()
            raise
        return True

    def _ask(
        self,
        server: ForkServer,
        request: bytes,
        streams: Sequence[int],
        control: socket.socket | None,
        wall: float,
        cpu: float,
    ) -> Box:
        report, report_end = socket.socketpair()
        own: socket.socket | None = None
        with ExitStack() as stack:
            stack.enter_context(report_end)
            if control is None:
                own, control = socket.socketpair()
                stack.enter_context(control)
            sent = [report_end.fileno(), *streams, control.fileno()]
            box = Box(report, own, wall, cpu)
            with suppress(OSError):  # the report then says that nothing began
                server.send(request, sent)
            return box

    def _run(self, mode: str, message: dict[str, Any], stdin: bytes, limits: Limits) -> Completed:
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        with tempfile.TemporaryFile() as file:
            file.write(stdin)
            file.seek(0)
            try:
                box = self.box(
                    mode,
                    limits,
                    [file.fileno(), out_end, err_end],
                    wall=limits.wall_seconds,
                    cpu=limits.cpu_seconds,
                )
            except BaseException:
                close_all([out, err])
                raise
            finally:
                close_all([out_end, err_end])
        try:
            try:
                confine(box)
            except SandboxError:
                close_all([out, err])
                raise
            try:
                assert box.control is not None, "a box without another channel has one to its caller"
                send(box.control, message)
            except ClosedError:
                pass  # it has ended: the report says how
            return collect(box, out, err, limits.output_bytes)
        finally:
            box.close()

    def _started(self) -> ForkServer:
        with self._lock:
            if self._server is not None and not self._server.alive:
                self._server.close()
                self._server = None
            if self._server is None:
                self._server = ForkServer.start(self._level, self._seed)
            return self._server

    def _forget(self, server: ForkServer) -> None:
        """Closes a server that has ended, or is about to: its process may still be there for a moment."""
        with self._lock:
            if self._server is server:
                server.close()
                self._server = None


def confine(box: Box) -> None:
    """Waits until a process is confined.

    Raises:
        SandboxError: it is not.
    """
    assert box.control is not None, "a box without another channel has one to its caller"
    try:
        message = receive(box.control, 4096)
    except ClosedError:
        message = {}
    if "confined" not in message:
        raise SandboxError(message.get("failed", "the program's process ended before it was confined"))
