"""Interpreter in the sandbox whose state is kept between calls."""

from __future__ import annotations

import select
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from burnish.sandbox.base import Ending, Limits, SandboxError
from burnish.sandbox.box import GRACE, Box
from burnish.sandbox.server.exchange import ClosedError, TooLargeError, receive, send
from burnish.sandbox.server.supervisor import cpu_seconds

_LOOK = 0.05


@dataclass(frozen=True, slots=True)
class SessionResult:
    """Result of one call."""

    output: str
    """What it printed, and the value of a last expression."""
    error: str = ""
    """Traceback of what it raised."""
    ended: Ending | None = None
    """How the interpreter ended in this call; None: it goes on."""


class Session:
    """Interpreter in the sandbox. A context manager.

    Example: ``session.execute("x = 2").output == ""``, then ``session.execute("x + 1").output == "3\\n"``.
    """

    def __init__(self, box: Box, limits: Limits) -> None:
        self._box = box
        self._limits = limits
        self._confined = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kills the interpreter."""
        self._box.close()

    @property
    def alive(self) -> bool:
        """Whether it can execute more."""
        return self._box.end is None and self._box.report.fileno() >= 0

    def execute(self, source: str) -> SessionResult:
        """Executes statements. A call that takes too long, or ends the interpreter, ends the session.

        Raises:
            SandboxError: the sandbox failed, or the session has ended before.
        """
        control = self._box.control
        assert control is not None, "a session has a channel to its caller"
        if not self.alive:
            raise SandboxError("the session has ended: its state is lost, and a new one is needed")
        try:
            if not self._confined and "confined" not in (said := receive(control, 4096)):
                raise SandboxError(said.get("failed", "the interpreter was not confined"))
            self._confined = True
            control.settimeout(self._limits.wall_seconds)  # it may not read
            send(control, {"source": source})
        except ClosedError:
            return self._ended()
        begun, used = time.monotonic(), self._cpu()
        while True:
            readable, _, _ = select.select([control, self._box.report], [], [], _LOOK)
            if control in readable:
                return self._received(begun + self._limits.wall_seconds)
            if self._box.report in readable and (not self._box.read_report() or self._box.end is not None):
                return self._ended()
            if time.monotonic() - begun > self._limits.wall_seconds or self._cpu() - used > self._limits.cpu_seconds:
                self.close()
                return SessionResult("", ended=Ending.TIMEOUT)

    def _received(self, due: float) -> SessionResult:
        assert self._box.control is not None, "a session has a channel to its caller"
        try:
            # JSON writes a character in at most six bytes.
            message = receive(self._box.control, 6 * self._limits.output_bytes + (1 << 16), due)
            output, error = (_encodable(message[name]) for name in ("output", "error"))
        except TooLargeError:
            self.close()
            return SessionResult("", ended=Ending.OUTPUT)
        except (ClosedError, KeyError, TypeError):
            return self._ended()
        return SessionResult(output, error)

    def _ended(self) -> SessionResult:
        end = self._box.end_within(GRACE)
        self.close()
        # One that has only closed its channel, or sent what is no answer, is killed.
        return SessionResult("", ended=Ending.KILLED if end is None else end.ending(self._box.cpu_limit))

    def _cpu(self) -> float:
        return cpu_seconds(self._box.pid) if self._box.pid is not None else 0.0


def _encodable(text: object) -> str:
    """Text without half surrogates, which no file and no tokenizer takes."""
    return str(text).encode(errors="replace").decode()
