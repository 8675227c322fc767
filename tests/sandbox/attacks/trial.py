"""One attack in the sandbox: its verdict, whether it succeeded, and what it left."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from burnish.sandbox.base import Level, Limits
from burnish.sandbox.local import LocalEngine
from burnish.sandbox.tests import AssertTest, CallTest, TestSuite
from tests.sandbox.attacks.arena import Arena
from tests.sandbox.attacks.record import SQUARES, Attack

HONEST = "def solve(x): return x * x"
_SQUARES = TestSuite(tuple(map(AssertTest, SQUARES)))
_CALLS = TestSuite((CallTest("solve", (2,), expected=4), CallTest("solve", (3,), expected=9)))
_SECONDS = 10.0
"""Until all that a program had must be gone; it is gone in milliseconds."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of an attack."""

    verdict: str
    """Value of `TestStatus` or of `Ending`."""
    said: str
    """Detail of the verdict, or what the program wrote."""
    succeeded: bool
    left: list[str]
    """Processes, folders, mounts and descriptors."""
    honest: bool
    """Whether a right program passes afterwards."""


class Trials:
    """An engine and an arena for many attacks. A context manager."""

    def __init__(self, level: Level) -> None:
        self._level = level
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.arena = self._stack.enter_context(Arena())
        self.engine = self._stack.enter_context(LocalEngine(self._level))
        self._honest()
        self._idle = self._has()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def attack(self, attack: Attack) -> Seen:
        """Tries an attack."""
        self.arena.reset()
        before = self._has()
        verdict, said, succeeded = self._tests(attack) if attack.on_tests else self._script(attack)
        left = self._left(before)
        done = self.arena.effects()
        return Seen(verdict, said, succeeded or bool(done), left + done, self._honest())

    def _tests(self, attack: Attack) -> tuple[str, str, bool]:
        program = f"HOST = {self.arena.host()!r}\n{attack.program}"
        suite = TestSuite(tuple(map(AssertTest, attack.tests)))
        results = self.engine.test(program, suite, attack.limits)
        first = next((result for result in results if not result.passed), results[-1])
        succeeded = first.passed
        if attack.tests is SQUARES:
            succeeded = succeeded or all(result.passed for result in self.engine.test(program, _CALLS, attack.limits))
        return first.status.value, first.detail, succeeded

    def _script(self, attack: Attack) -> tuple[str, str, bool]:
        head = f"HOST = {self.arena.host()!r}\n"
        done = self.engine.run(head + attack.program, b"", attack.limits)
        output = done.stdout + done.stderr
        if attack.after:
            later = self.engine.run(head + attack.after, b"", attack.limits)
            output += later.stdout + later.stderr
        text = output.decode(errors="replace")
        said = text.replace(self.arena.word, "WORD").replace(self.arena.secret, "SECRET")[-300:]
        return done.ending.value, said, self.arena.word in text or self.arena.secret in text

    def _honest(self) -> bool:
        return all(result.passed for result in self.engine.test(HONEST, _SQUARES, Limits()))

    def _has(self) -> dict[str, Any]:
        server = self.engine._server
        assert server is not None, "an engine that was entered has a server"
        return {
            "processes": descendants(server.popen.pid) - {box.pid for box in self.engine.testers._idle},
            "folders": folders(self.engine),
            "mounts": len(Path("/proc/self/mountinfo").read_text().splitlines()),
            "descriptors": len(os.listdir("/proc/self/fd")),
        }

    def _left(self, before: dict[str, Any]) -> list[str]:
        """What there is more than before, as soon as that is nothing, or after some seconds."""
        due = time.monotonic() + _SECONDS
        while True:
            now = self._has()
            left = [
                *(f"process {pid}" for pid in now["processes"] - self._idle["processes"]),
                *(f"folder {name}" for name in now["folders"] - before["folders"]),
                *(name for name in ("mounts", "descriptors") if now[name] > before[name]),
            ]
            if not left or time.monotonic() > due:
                return left
            time.sleep(0.01)


def folders(engine: LocalEngine) -> set[str]:
    """Folders of programs that do not run any longer."""
    server = engine._server
    assert server is not None, "an engine that was entered has a server"
    if server.folder is None:
        return set()
    used = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            used.add(Path(os.readlink(f"/proc/{name}/cwd")).name)
    return set(os.listdir(server.folder)) - used


def descendants(pid: int) -> set[int]:
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = Path(f"/proc/{name}/stat").read_text()
        except OSError:
            continue
        children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(name))
    found, pending = set(), [pid]
    while pending:
        new = children.get(pending.pop(), [])
        found.update(new)
        pending += new
    return found
