"""Engine without a sandbox, for tests of the audit: programs of the tests themselves run in this process."""

from __future__ import annotations

import contextlib
import io
import math
import sys
from collections.abc import Sequence
from typing import Any, Self

from burnish.sandbox.base import Completed, Ending, Level, Limits, TestResult, TestStatus, UnusableTestsError
from burnish.sandbox.tests import AssertTest, CallTest, StdinTest, Test, TestSuite

PASSED, WRONG = TestResult(TestStatus.PASSED), TestResult(TestStatus.WRONG_ANSWER, "another result")
MAX_LINES = 20_000
"""Lines that a program may execute, instead of seconds; a share of the seconds is that share of them."""


class _TooLong(BaseException):
    """The program executed too many lines."""


class TrustingEngine:
    """An `Engine` that counts executed lines instead of seconds, so that its verdicts do not depend on the machine."""

    level: Level | None = None

    def __init__(self) -> None:
        self.programs: list[str] = []
        """All programs that were tested, in order."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def run(self, program: str, stdin: bytes, limits: Limits) -> Completed:
        output, code = io.StringIO(), 0
        before = sys.stdin
        sys.stdin = io.TextIOWrapper(io.BytesIO(stdin))
        try:
            with contextlib.redirect_stdout(output), _few_lines(limits):
                exec(compile(program, "main.py", "exec", dont_inherit=True), {"__name__": "__main__"})
        except _TooLong:
            return Completed(Ending.TIMEOUT, None, output.getvalue().encode(), b"", 0.0, 0.0)
        except BaseException:  # noqa: BLE001 (a program may raise anything)
            code = 1
        finally:
            sys.stdin = before
        return Completed(Ending.EXITED, code, output.getvalue().encode(), b"", 0.0, 0.0)

    def test(self, program: str, suite: TestSuite, limits: Limits, *, stop_early: bool = True) -> Sequence[TestResult]:
        self.programs.append(program)
        results: list[TestResult] = []
        for test in suite.tests:
            skipped = stop_early and results and not results[-1].passed
            results.append(TestResult(TestStatus.NOT_RUN) if skipped else self._verdict(program, suite, test, limits))
        return results

    def _verdict(self, program: str, suite: TestSuite, test: Test, limits: Limits) -> TestResult:
        if isinstance(test, StdinTest):
            done = self.run(program, test.stdin.encode(), limits)
            if done.ending is Ending.TIMEOUT:
                return TestResult(TestStatus.TIMEOUT)
            return PASSED if done.succeeded and done.stdout.decode().split() == test.stdout.split() else WRONG
        names: dict[str, Any] = {"__name__": "solution"}
        try:
            with contextlib.redirect_stdout(io.StringIO()), _few_lines(limits):
                exec(compile(program, "solution.py", "exec", dont_inherit=True), names)
                return _called(names, suite, test)
        except _TooLong:
            return TestResult(TestStatus.TIMEOUT, "too many lines")
        except SyntaxError as error:
            return TestResult(TestStatus.COMPILE_ERROR, str(error))
        except UnusableTestsError:
            raise
        except AssertionError:
            return WRONG
        except BaseException as error:  # noqa: BLE001 (a program may raise anything)
            return TestResult(TestStatus.RUNTIME_ERROR, repr(error))


def _called(names: dict[str, Any], suite: TestSuite, test: AssertTest | CallTest) -> TestResult:
    if isinstance(test, AssertTest):
        if "broken" in test.source:
            raise UnusableTestsError("the tests cannot be run: broken")
        exec(suite.setup, names)
        exec(test.source, names)
        return PASSED
    owner, _, method = test.function.rpartition(".")
    function = getattr(names[owner](), method) if owner else names[method]
    return PASSED if _same(function(*test.arguments, **test.keywords), test.expected) else WRONG


def _same(result: Any, expected: Any) -> bool:
    if isinstance(result, float) and isinstance(expected, int | float):
        return math.isclose(result, expected)
    return type(result) is type(expected) and bool(result == expected)


@contextlib.contextmanager
def _few_lines(limits: Limits) -> Any:
    """Ends what runs inside of it after so many lines."""
    left = int(MAX_LINES * limits.cpu_seconds / Limits().cpu_seconds)
    before = sys.gettrace()

    def trace(frame: Any, event: str, argument: object) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise _TooLong
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
