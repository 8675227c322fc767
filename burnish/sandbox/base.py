"""Records and interface of the sandbox: levels, limits, results of programs and of tests, engines.

An engine runs untrusted programs. `local` is one on this machine; `sandbox_fusion` sends programs to a server.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Annotated, Protocol, Self

from pydantic import Field

from burnish.config.settings import Settings
from burnish.sandbox.tests import TestSuite

MIB = 1 << 20


class Level(IntEnum):
    """Level of isolation; a higher one promises all that a lower one does. docs/sandbox.md has the table."""

    PROCESS = 1
    """A process with limits, an empty environment and a folder of its own; files and network are not protected."""
    RESTRICTED = 2
    """Landlock and seccomp: no network, no files but those that are needed, no other processes. Linux."""
    ISOLATED = 3
    """Namespaces as well: a file system, process table and network of its own. Linux."""

    @classmethod
    def named(cls, name: str) -> Level:
        """Level of a name such as ``isolated``."""
        return cls[name.upper()]

    @property
    def label(self) -> str:
        """Name as a recipe writes it."""
        return self.name.lower()


class Limits(Settings):
    """Limits of one program."""

    cpu_seconds: Annotated[float, Field(gt=0)] = 3.0
    """Processor seconds of one test."""
    wall_seconds: Annotated[float, Field(gt=0)] = 9.0
    """Seconds of one test by the clock, for programs that wait."""
    total_seconds: Annotated[float, Field(gt=0)] = 30.0
    """Seconds of all tests of a program by the clock."""
    memory_mib: Annotated[int, Field(ge=32)] = 512
    """Address space of each process, MiB."""
    file_mib: Annotated[int, Field(ge=1)] = 16
    """Size of the files that a program may write together (level isolated) or each (below), MiB."""
    output_kib: Annotated[int, Field(ge=1)] = 1024
    """Bytes of standard output and error together, or of one returned value, KiB."""
    processes: Annotated[int, Field(ge=1)] = 1
    """Number of processes; 1: a program may start none, and no other program. Without effect at level process."""
    threads: Annotated[int, Field(ge=1)] = 32
    """Number of threads, of all processes together. Below level isolated it is without effect: memory limits them."""
    open_files: Annotated[int, Field(ge=8)] = 64
    """Number of open files of each process."""

    @property
    def output_bytes(self) -> int:
        return self.output_kib << 10


class Ending(StrEnum):
    """How a program ended."""

    EXITED = "exited"
    """By itself, with an exit status."""
    TIMEOUT = "timeout"
    """It used up its processor or clock seconds, and was killed."""
    MEMORY = "memory"
    """It ran out of memory."""
    OUTPUT = "output"
    """It wrote more than it may, and was killed."""
    FORBIDDEN = "forbidden"
    """It made a system call that no program needs, and was killed."""
    KILLED = "killed"
    """By a signal."""


@dataclass(frozen=True, slots=True)
class Completed:
    """Result of one run of a program."""

    ending: Ending
    exit_code: int | None
    """None: it did not end by itself."""
    stdout: bytes
    stderr: bytes
    cpu_seconds: float
    wall_seconds: float
    signal: int | None = None
    """Signal that ended it."""

    @property
    def succeeded(self) -> bool:
        return self.ending is Ending.EXITED and self.exit_code == 0


class TestStatus(StrEnum):
    """Verdict of one test. Our own failures are not here: they are a `SandboxError`."""

    __test__ = False  # pytest takes the name for a class of tests

    PASSED = "passed"
    WRONG_ANSWER = "wrong_answer"
    """It ran, and the result is not the expected one."""
    COMPILE_ERROR = "compile_error"
    RUNTIME_ERROR = "runtime_error"
    """An exception, a signal, or an exit status other than 0."""
    EXITED = "exited"
    """The program ended before it was tested (``sys.exit``, ``os._exit``)."""
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT = "output"
    """More output than the limit."""
    FORBIDDEN = "forbidden"
    """A system call that is not allowed."""
    NOT_RUN = "not_run"
    """An earlier test failed, or all seconds were used up."""


@dataclass(frozen=True, slots=True)
class TestResult:
    """Verdict of one test with a readable reason. Example: ``TestResult(TestStatus.TIMEOUT, "its time was over")``."""

    __test__ = False

    status: TestStatus
    detail: str = ""

    @property
    def passed(self) -> bool:
        return self.status is TestStatus.PASSED


class SandboxError(Exception):
    """Failure of the sandbox itself, or of the tests: no verdict on the program. It never counts as a wrong answer."""


class UnusableTestsError(SandboxError):
    """The tests cannot be run, whatever the program is: their syntax, their setup, values that cannot be sent."""


class Engine(Protocol):
    """Runs untrusted programs. Safe to call from several threads."""

    @property
    def level(self) -> Level | None:
        """What it promises; None: not known, the isolation is that of a server."""

    def run(self, program: str, stdin: bytes, limits: Limits) -> Completed:
        """Runs a Python program as a script.

        Raises:
            SandboxError: it could not be run.
        """

    def test(self, program: str, suite: TestSuite, limits: Limits, *, stop_early: bool = True) -> Sequence[TestResult]:
        """Verdicts of all tests of a suite, in its order. The program never reads the tests.

        Args:
            program: source text in Python.
            suite: the tests.
            limits: for each test, and for all together.
            stop_early: whether tests after the first that fails are not run.

        Raises:
            SandboxError: the sandbox failed.
            UnusableTestsError: the tests cannot be run (their own syntax or setup).
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...
