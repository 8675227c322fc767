"""Tests by standard input and output: the program is run on each text, and its output is compared here."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from burnish.sandbox.base import Completed, Ending, Engine, Limits, TestResult, TestStatus
from burnish.sandbox.tests import StdinTest, TestSuite

RELATIVE = 1e-6
_STATUS = {
    Ending.TIMEOUT: TestStatus.TIMEOUT,
    Ending.MEMORY: TestStatus.MEMORY,
    Ending.OUTPUT: TestStatus.OUTPUT,
    Ending.FORBIDDEN: TestStatus.FORBIDDEN,
}
_NO_PYTHON = ("SyntaxError:", "IndentationError:", "TabError:")
"""Last line of a traceback of a program that cannot be compiled. One that prints it fails all the same."""


def run_stdin_tests(
    engine: Engine, program: str, suite: TestSuite, limits: Limits, *, stop_early: bool
) -> list[TestResult]:
    """Verdicts of tests by standard input and output.

    Raises:
        SandboxError: see `Engine.test`.
    """
    results: list[TestResult] = []
    due = time.monotonic() + limits.total_seconds
    for test in suite.tests:
        assert isinstance(test, StdinTest), "tests of a suite are of one kind"
        if time.monotonic() > due:
            results.append(TestResult(TestStatus.NOT_RUN, "all seconds were used up"))
            continue
        if stop_early and results and not results[-1].passed:
            results.append(TestResult(TestStatus.NOT_RUN, "an earlier test failed"))
            continue
        result = verdict(engine.run(program, test.stdin.encode(), limits), test)
        if result.status is TestStatus.COMPILE_ERROR:
            return [result] * len(suite.tests)
        results.append(result)
    return results


def verdict(completed: Completed, test: StdinTest) -> TestResult:
    """Verdict of one run."""
    if not completed.succeeded:
        return status_of(completed)
    got = completed.stdout.decode(errors="replace")
    if same_output(got, test.stdout):
        return TestResult(TestStatus.PASSED)
    return TestResult(TestStatus.WRONG_ANSWER, f"it wrote {got.strip()!r:.120}, not {test.stdout.strip()!r:.120}")


def status_of(completed: Completed) -> TestResult:
    """Verdict of a run that did not succeed."""
    said = _said(completed)
    if completed.ending is Ending.EXITED and said.startswith(_NO_PYTHON):
        return TestResult(TestStatus.COMPILE_ERROR, said)
    return TestResult(_STATUS.get(completed.ending, TestStatus.RUNTIME_ERROR), said)


def same_output(got: str, expected: str) -> bool:
    """Whether two texts are the same but for white space at the ends of lines, and numbers by a relative 1e-6.

    Only a number that is written with a point or an exponent may differ.
    """
    return _same_lines(_lines(got), _lines(expected))


def _same_lines(got: Sequence[str], expected: Sequence[str]) -> bool:
    return len(got) == len(expected) and all(map(_same_line, got, expected))


def _same_line(got: str, expected: str) -> bool:
    if got == expected:
        return True
    one, other = got.split(), expected.split()
    return len(one) == len(other) and all(map(_same_word, one, other))


def _same_word(got: str, expected: str) -> bool:
    if got == expected:
        return True
    if not any(mark in expected for mark in ".eE"):
        return False
    try:
        one, other = float(got), float(expected)
    except ValueError:
        return False
    return math.isfinite(one) and math.isfinite(other) and math.isclose(one, other, rel_tol=RELATIVE, abs_tol=1e-9)


def _lines(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _said(completed: Completed) -> str:
    last = completed.stderr.decode(errors="replace").strip().rpartition("\n")[2][:200]
    how = f"signal {completed.signal}" if completed.signal else f"exit status {completed.exit_code}"
    return last or (how if completed.ending in (Ending.EXITED, Ending.KILLED) else completed.ending.value)
