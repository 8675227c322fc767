"""Caller's side of one sandboxed process: its channel, its output, its end."""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import socket
import time
from dataclasses import dataclass, field
from typing import Any

from burnish.sandbox.base import Completed, Ending, SandboxError

_CLOSE = 2.0
"""Seconds by which the supervisor of a process outlasts the limit of the process before it is given up."""
GRACE = 1.0
"""Seconds for the report of an end that has been seen otherwise."""
_RAISED = {b"MemoryError": Ending.MEMORY, b"PermissionError: [Errno 1]": Ending.FORBIDDEN}
"""Last line of a traceback that tells the end. A program may print it as well, and gains nothing."""


@dataclass(frozen=True, slots=True)
class End:
    """End of a sandboxed process, as its supervisor saw it."""

    status: int
    """Wait status, see `os.WIFEXITED`."""
    timeout: bool
    """Whether it was killed because its time was over."""
    cpu: float
    wall: float
    """Processor and clock seconds."""

    @property
    def signal(self) -> int | None:
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else None

    @property
    def exit_code(self) -> int | None:
        return os.WEXITSTATUS(self.status) if os.WIFEXITED(self.status) else None

    def ending(self, cpu_limit: float) -> Ending:
        """The end in words.

        Args:
            cpu_limit: processor seconds after which the kernel kills it.
        """
        if self.timeout or (self.signal in (signal.SIGKILL, signal.SIGXCPU) and self.cpu >= cpu_limit):
            return Ending.TIMEOUT
        if self.signal is None:
            return Ending.EXITED
        return Ending.FORBIDDEN if self.signal == signal.SIGSYS else Ending.KILLED


@dataclass(eq=False, slots=True)
class Box:
    """A sandboxed process that was asked for. Its owner closes it, which kills it if it still runs."""

    report: socket.socket
    control: socket.socket | None
    """Channel to it; None: it belongs to another process."""
    wall_limit: float
    cpu_limit: float
    pid: int | None = None
    """None: not known yet."""
    end: End | None = None
    """None: it runs."""
    _begun: float = field(default_factory=time.monotonic)
    _lines: bytes = b""

    def close(self) -> None:
        """Kills it, if it runs, and forgets it."""
        self.report.close()
        if self.control is not None:
            self.control.close()

    @property
    def due(self) -> float:
        """Time, by time.monotonic(), at which its supervisor must have reported its end."""
        return self._begun + self.wall_limit + _CLOSE

    def read_report(self) -> bool:
        """Reads what the supervisor has reported. False: nothing began, and it may be asked for again.

        Raises:
            SandboxError: it could not be made, or its supervisor ended without a report.
        """
        try:
            data = self.report.recv(4096)
        except OSError:
            data = b""
        if not data:
            if self.pid is None:
                return False
            raise SandboxError("the process beside the program ended without a report (was it killed?)")
        *lines, self._lines = (self._lines + data).split(b"\n")
        for line in lines:
            self._read(json.loads(line))
        return True

    def _read(self, message: dict[str, Any]) -> None:
        if "failed" in message:
            raise SandboxError(message["failed"])
        if "pid" in message:
            self.pid = message["pid"]
        else:
            self.end = End(message["status"], message["timeout"], message["cpu"], message["wall"])

    def wait(self) -> End:
        """Waits for its end.

        Raises:
            SandboxError: there was no report in time.
        """
        end = self.end_within(math.inf)
        if end is None:
            raise SandboxError("the process beside the program did not report in time")
        return end

    def end_within(self, seconds: float) -> End | None:
        """Its end, if that is reported within some seconds; None: it is not.

        Raises:
            SandboxError: its supervisor ended without a report.
        """
        due = min(self.due, time.monotonic() + seconds)
        while self.end is None:
            readable, _, _ = select.select([self.report], [], [], max(0.0, due - time.monotonic()))
            if not readable:
                return None
            if not self.read_report():
                raise SandboxError("the server of the sandbox ended")
        return self.end


def collect(box: Box, stdout: int, stderr: int, limit: int) -> Completed:
    """Reads the output of a program until it ends; kills it if there is too much.

    Args:
        box: the program.
        stdout: end of a pipe, closed here.
        stderr: likewise.
        limit: bytes of both together.
    """
    output = {stdout: bytearray(), stderr: bytearray()}
    opened = set(output)
    too_much = False
    try:
        while opened or box.end is None:
            waited: list[Any] = [*opened, *([box.report] if box.end is None else [])]
            # What it left open is not waited for once it has ended.
            timeout = max(0.0, box.due - time.monotonic()) if box.end is None else 0.0
            readable, _, _ = select.select(waited, [], [], timeout)
            if not readable:
                if box.end is not None:
                    break
                raise SandboxError("the process beside the program did not report in time")
            for source in readable:
                if source is box.report:
                    if not box.read_report():
                        raise SandboxError("the server of the sandbox ended")
                    continue
                data = os.read(source, 1 << 16)
                output[source] += data
                if not data:
                    opened.discard(source)
            too_much = sum(map(len, output.values())) > limit
            if too_much:
                break
    finally:
        for descriptor in output:
            os.close(descriptor)
    texts = bytes(output[stdout][:limit]), bytes(output[stderr][:limit])
    if too_much:
        cpu = box.end.cpu if box.end else 0.0
        return Completed(Ending.OUTPUT, None, *texts, cpu, time.monotonic() - box._begun)
    assert box.end is not None, "a program without too much output is waited for"
    ending = box.end.ending(box.cpu_limit)
    if ending is Ending.EXITED and box.end.exit_code:
        raised = texts[1].rstrip().rpartition(b"\n")[2]
        ending = next((found for begin, found in _RAISED.items() if raised.startswith(begin)), ending)
    code = box.end.exit_code if ending is Ending.EXITED else None
    return Completed(ending, code, *texts, box.end.cpu, box.end.wall, box.end.signal)


def readable(text: str) -> str:
    """Text of a program without characters that a terminal obeys, or that no file can hold (half surrogates)."""
    return "".join(
        part if part.isprintable() or part == "\n" else part.encode("unicode_escape").decode() for part in text
    )


def close_all(descriptors: list[int]) -> None:
    """Closes descriptors that were sent."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
