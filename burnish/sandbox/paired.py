"""Tests of functions: one sandboxed process runs the tests, another the program; this one watches the time.

A test that takes too long costs both processes, so the tests after it run in new ones.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from burnish.sandbox.base import Ending, Level, Limits, SandboxError, TestResult, TestStatus, UnusableTestsError
from burnish.sandbox.box import GRACE, Box, readable
from burnish.sandbox.server.exchange import ClosedError, encode, receive, send
from burnish.sandbox.server.supervisor import cpu_seconds
from burnish.sandbox.testers import FOREVER, LIMITS, Testers, confirmed, without_code
from burnish.sandbox.tests import AssertTest, CallTest, TestSuite

_LOOK = 0.05
"""Seconds between looks at the processor time."""
_ENDINGS = {
    Ending.FORBIDDEN: TestStatus.FORBIDDEN,
    Ending.TIMEOUT: TestStatus.TIMEOUT,
    Ending.KILLED: TestStatus.RUNTIME_ERROR,
}
_ENDS_THE_PROGRAM = (TestStatus.EXITED, TestStatus.TIMEOUT, TestStatus.FORBIDDEN, TestStatus.MEMORY, TestStatus.OUTPUT)


class StartsBoxes(Protocol):
    """What is needed of an engine."""

    testers: Testers

    @property
    def level(self) -> Level:
        """What it promises."""

    def box(
        self,
        mode: str,
        limits: Limits,
        streams: Sequence[int],
        *,
        wall: float,
        cpu: float = ...,
        control: socket.socket | None = None,
    ) -> Box:
        """Starts a sandboxed process."""


def run_paired(
    engine: StartsBoxes, program: str, suite: TestSuite, limits: Limits, *, stop_early: bool
) -> list[TestResult]:
    """Verdicts of tests of functions.

    Raises:
        SandboxError: see `Engine.test`.
    """
    results: list[TestResult] = []
    due = time.monotonic() + limits.total_seconds
    # At level process a program has the user of the tests' process, and could change one that takes the next program.
    found = without_code(suite) if engine.level > Level.PROCESS else None
    plain, exact = found or (suite, False)
    while len(results) < len(suite.tests):
        left = due - time.monotonic()
        if left <= 0:
            results += [TestResult(TestStatus.NOT_RUN, "all seconds were used up")] * (len(suite.tests) - len(results))
            break
        request = request_of(program, plain, len(results), limits, exact=exact, stop_early=stop_early)
        pair = _Pair.start(engine, limits, left, reused=found is not None)
        try:
            verdicts = pair.run(request, limits)
            if found is not None and verdicts[-1].status is not TestStatus.TIMEOUT and pair.is_done():
                engine.testers.give(pair.tester)
                pair.candidate.close()
            else:
                pair.close()
        except BaseException:
            pair.close()
            raise
        results += verdicts
        if stop_early and not verdicts[-1].passed:
            rest = len(suite.tests) - len(results)
            results += [TestResult(TestStatus.NOT_RUN, "an earlier test failed")] * rest
    return results


def request_of(
    program: str, suite: TestSuite, first: int, limits: Limits, *, exact: bool, stop_early: bool
) -> dict[str, Any]:
    """The request that a process of tests gets, see `server.tester`.

    Args:
        program: source text.
        suite: the tests.
        first: number of the first one that is run.
        limits: of the values of the program.
        exact: whether results of calls are compared as ``==`` does.
        stop_early: whether tests after the first that fails are not run.
    """
    return {
        "program": program,
        "limit": limits.output_bytes,
        "tests": [_entry(test, exact=exact) for test in suite.tests[first:]],
        "setup": suite.setup,
        "names": list(suite.names or ()),
        "stop_early": stop_early,
    }


def _entry(test: object, *, exact: bool) -> dict[str, Any]:
    if isinstance(test, AssertTest):
        return {"source": test.source}
    assert isinstance(test, CallTest), "texts for standard input are tested elsewhere"
    plain = {"args": test.arguments, "kwargs": test.keywords, "expected": test.expected}
    values = {name: encode(part, _no_object) for name, part in plain.items()}
    return {"call": {"function": test.function, "exact": exact, **values}}


def _no_object(value: object) -> object:
    raise UnusableTestsError(f"a test has a {type(value).__name__}, which is no plain value")


@dataclass(eq=False, slots=True)
class _Pair:
    """A process of tests and one of a program."""

    tester: Box
    candidate: Box

    @classmethod
    def start(cls, engine: StartsBoxes, limits: Limits, seconds: float, *, reused: bool) -> _Pair:
        """Starts a process of the program, and takes one of tests or starts it too.

        Args:
            engine: starts them.
            limits: of the program.
            seconds: how long it may run.
            reused: whether the process of tests may have run others, and may run more.
        """
        one, other = socket.socketpair()
        with one, other, open(os.devnull, "r+b") as null:
            streams = [null.fileno()] * 3
            tester = engine.testers.take() if reused else None
            if tester is None:
                wall = FOREVER if reused else seconds
                tester = confirmed(engine.box("tester", LIMITS, streams, wall=wall))
            try:
                candidate = engine.box("candidate", limits, streams, wall=seconds, control=one)
            except BaseException:
                tester.close()
                raise
            assert tester.control is not None, "a process of tests has a channel to its caller"
            with contextlib.suppress(OSError):  # it has ended: what it answers says so
                socket.send_fds(tester.control, [b"\0"], [other.fileno()])
        return cls(tester, candidate)

    def close(self) -> None:
        self.tester.close()
        self.candidate.close()

    def run(self, request: dict[str, Any], limits: Limits) -> list[TestResult]:
        """Verdicts of the tests of a request, up to one that ended the program."""
        control = self.tester.control
        assert control is not None, "a process of tests has a channel to its caller"
        results: list[TestResult] = []
        num_tests = len(request["tests"])
        try:
            send(control, request)
            while len(results) < num_tests:
                message = self._next(control, limits)
                if message is None:
                    return [*results, TestResult(TestStatus.TIMEOUT, "its time was over")]
                if "failed" in message:
                    raise SandboxError(message["failed"])
                if "broken" in message:
                    raise UnusableTestsError(f"the tests cannot be run: {message['broken']}")
                if "end" not in message:
                    continue
                result = self._result(message)
                if message["end"] == "load":
                    return [*results, *[result] * (num_tests - len(results))]
                results.append(result)
                if not result.passed and (request["stop_early"] or result.status in _ENDS_THE_PROGRAM):
                    return results
        except ClosedError:
            results.append(self._without_tests())
        return results

    def is_done(self) -> bool:
        """Whether the process of tests has done all of its request, and waits."""
        control = self.tester.control
        assert control is not None, "a process of tests has a channel to its caller"
        try:
            return bool(select.select([control], [], [], GRACE)[0]) and receive(control) == {"done": True}
        except ClosedError:
            return False

    def _next(self, control: socket.socket, limits: Limits) -> dict[str, Any] | None:
        """The next message of the tests; None: the time of the test is over."""
        begun, used = time.monotonic(), self._cpu()
        while True:
            readable, _, _ = select.select([control], [], [], _LOOK)
            if readable:
                message = receive(control)
                return message if isinstance(message, dict) else {}
            if time.monotonic() - begun > limits.wall_seconds or self._cpu() - used > limits.cpu_seconds:
                return None

    def _result(self, message: dict[str, Any]) -> TestResult:
        status, detail = message["status"], readable(message["detail"])
        if status == "broken":
            raise UnusableTestsError(f"the tests cannot be run: {detail}")
        if status == TestStatus.EXITED:
            # How it ended says more than that it did.
            # One that has only closed its channel is killed as if it had.
            end = self.candidate.end_within(GRACE) if self._is_gone(detail) else None
            ending = end.ending(self.candidate.cpu_limit) if end else Ending.EXITED
            return TestResult(_ENDINGS.get(ending, TestStatus.EXITED), detail)
        return TestResult(TestStatus(status), detail)

    def _without_tests(self) -> TestResult:
        """Verdict where the process of the tests has ended before its time.

        Raises:
            SandboxError: it, or its supervisor, was killed by someone else.
        """
        end = self.tester.end_within(GRACE)
        if end is not None and end.timeout:
            return TestResult(TestStatus.TIMEOUT, "all seconds were used up")
        if end is not None and end.signal in (signal.SIGKILL, signal.SIGTERM):
            raise SandboxError("the process of the tests was killed")
        # What the program sends ended it: values that are large or nested.
        return TestResult(TestStatus.RUNTIME_ERROR, "the process of the tests ended")

    def _is_gone(self, detail: str) -> bool:
        return detail == "the program ended"

    def _cpu(self) -> float:
        return sum(cpu_seconds(box.pid) for box in (self.tester, self.candidate) if box.pid is not None)
