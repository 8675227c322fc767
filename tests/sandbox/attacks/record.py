"""Record of an attack on the sandbox: a program, how its success is seen, and the verdict at each level."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from burnish.sandbox.base import Level, Limits

QUICK = Limits(
    cpu_seconds=0.5, wall_seconds=1.0, total_seconds=4.0, memory_mib=512, file_mib=16, output_kib=256, open_files=64
)
"""Limits of an attack; what an attack that uses something up does is bounded a little above them."""
SQUARES = ("assert solve(2) == 4", "assert solve(3) == 9")


class Judge(StrEnum):
    """How an attack succeeds without a sandbox: what a naive judge goes by."""

    STATUS = "status"
    """Program and tests are one file; exit status 0 is a pass."""
    MARKER = "marker"
    """A process executes the program and then the tests, and prints that they passed."""
    PICKLE = "pickle"
    """What the program returns is pickled, and compared in another process."""
    EFFECT = "effect"
    """No tests: the program, or one that runs after it, prints the word or the secret, or the arena sees an effect."""
    TWO = "two"
    """As `EFFECT`, with the second program in the same interpreter."""
    OUTLASTS = "outlasts"
    """It still runs when its time is over."""
    CRASH = "crash"
    """Its process dies by a signal, and with it a judge in the same process."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Verdicts at the levels, any of a tuple: values of `TestStatus` (of attacks on tests) or of `Ending`."""

    process: tuple[str, ...] | None
    """None: the level does not promise to stop it."""
    restricted: tuple[str, ...] | None
    isolated: tuple[str, ...]

    def at(self, level: Level) -> tuple[str, ...] | None:
        """Verdicts at a level; None: no promise."""
        return {Level.PROCESS: self.process, Level.RESTRICTED: self.restricted, Level.ISOLATED: self.isolated}[level]


def everywhere(*verdicts: str) -> Expected:
    """Stopped at every level, with the same verdict."""
    return Expected(verdicts, verdicts, verdicts)


def confined(*verdicts: str) -> Expected:
    """Stopped by levels restricted and isolated."""
    return Expected(None, verdicts, verdicts)


def isolated(*verdicts: str) -> Expected:
    """Stopped by level isolated."""
    return Expected(None, None, verdicts)


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack. Its program begins with ``HOST``, a dictionary of what `arena.Arena` offers."""

    name: str
    category: str
    tries: str
    """What it tries, in one line."""
    program: str
    expected: Expected
    judge: Judge = Judge.STATUS
    tests: tuple[str, ...] = SQUARES
    """Of an attack on tests: assert statements; the program defines ``solve``, and is wrong."""
    after: str = ""
    """Program that runs next, and looks for what is left."""
    limits: Limits = QUICK
    no_canary: str = ""
    """Why it is not shown to work without a sandbox; "": it is."""
    perhaps: str = ""
    """Why some machines do not let it work without a sandbox; "": all do."""
    by_root: bool = False
    """Whether it works without a sandbox for root alone."""
    machine: str = ""
    """The only kind of machine that it is for; "": any."""
    slow: bool = False

    @property
    def on_tests(self) -> bool:
        """Whether it is an attack on tests, not a program of its own."""
        return bool(self.tests)


def script(
    name: str,
    category: str,
    tries: str,
    program: str,
    expected: Expected,
    *,
    judge: Judge = Judge.EFFECT,
    **more: object,
) -> Attack:
    """An attack that is no attack on tests."""
    return Attack(name, category, tries, program, expected, judge, (), **more)  # type: ignore[arg-type]


CALLS = """\
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def called(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
"""
"""Begin of programs that call the kernel."""
