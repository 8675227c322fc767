"""Engine on a server with SandboxFusion's interface (github.com/bytedance/SandboxFusion): ``POST /run_code``.

A server runs whole programs only. So calls of functions run in a program that prints the values, and are compared here;
of assert statements, those that compare a call with a value. What the server isolates is its own matter.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import httpx

from burnish.errors import RecipeError, RunError, UserError
from burnish.roles.server_client import Request, ServerClient
from burnish.sandbox.base import (
    Completed,
    Ending,
    Level,
    Limits,
    SandboxError,
    TestResult,
    TestStatus,
    UnusableTestsError,
)
from burnish.sandbox.server import exchange
from burnish.sandbox.server.compare import matches
from burnish.sandbox.stdin_tests import run_stdin_tests, status_of
from burnish.sandbox.tests import AssertTest, CallTest, StdinTest, TestSuite, call_of

_DRIVER = """
import json, sys
_exchange = {}
exec(compile(_request["exchange"], "exchange", "exec"), _exchange)
def _no_object(value):
    raise TypeError(f"a {type(value).__name__} is no plain value")
_program = {"__name__": "candidate"}
exec(compile(_request["program"], "candidate", "exec"), _program)
_target, *_names = _request["function"].split(".")
_value = _program[_target]
for _name in _names:
    _value = getattr(_value() if isinstance(_value, type) else _value, _name)
_arguments = [_exchange["decode"](part, _no_object) for part in _request["arguments"]]
_keywords = {name: _exchange["decode"](part, _no_object) for name, part in _request["keywords"].items()}
_result = _exchange["encode"](_value(*_arguments, **_keywords), _no_object)
sys.stdout.write("\\n" + _request["mark"] + json.dumps(_result) + "\\n")
"""
"""What the server runs for a call. What the program prints cannot be the expected value unless the program knows it."""

_FIRST_SECONDS = 20.0
"""Seconds in which a server must answer for the first time."""


class SandboxFusion:
    """Engine on a server. Safe to call from several threads. Its owner closes it.

    Args:
        url: address of the server, without ``/run_code``.
        wait_seconds: all tries of one program together; a server that is busy is asked again.

    Raises:
        RecipeError: no http or https address.
    """

    def __init__(self, url: str, *, wait_seconds: float = 120.0) -> None:
        parsed = httpx.URL(url.strip())
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise RecipeError(
                given=f"engine: {url}",
                rule="a sandbox on a server is given by its http or https address",
                remedy="write http://host:port, or engine: local",
            )
        self._wait_seconds = wait_seconds
        self._client = ServerClient(
            url.strip().rstrip("/"), "", wait_seconds, wait=threading.Event.wait, clock=time.monotonic
        )

    @property
    def level(self) -> Level | None:
        return None

    def __enter__(self) -> Self:
        """Asks the server to run an empty program, for a few seconds.

        Raises:
            RunError: it does not answer, or cannot run it.
        """
        try:
            self._run("", b"", Limits(), min(self._wait_seconds, _FIRST_SECONDS))
        except SandboxError as error:
            self.close()
            raise RunError(
                given=f"engine: {error}",
                rule="a server of SandboxFusion runs programs: POST /run_code",
                remedy="start the server, correct its address, or write engine: local",
            ) from error
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def run(self, program: str, stdin: bytes, limits: Limits) -> Completed:
        """Runs a Python program as a script; see `Engine`. Output beyond the limit is cut by no server, and counts as
        too much here."""
        return self._run(program, stdin, limits, self._wait_seconds)

    def _run(self, program: str, stdin: bytes, limits: Limits, seconds: float) -> Completed:
        begun = time.monotonic()
        body = {
            "code": program,
            "language": "python",
            "stdin": stdin.decode(errors="replace"),
            "run_timeout": limits.wall_seconds,
            "compile_timeout": limits.wall_seconds,
            "memory_limit_MB": limits.memory_mib,
        }
        try:
            request = Request("/run_code", "the result of a program", body)
            answer = self._client.ask(request, self._client.deadline(seconds))
        except UserError as error:
            raise SandboxError(error.given) from error
        return completed(answer, limits, time.monotonic() - begun)

    def test(self, program: str, suite: TestSuite, limits: Limits, *, stop_early: bool = True) -> Sequence[TestResult]:
        """Verdicts of the tests of a suite; see `Engine`."""
        if isinstance(suite.tests[0], StdinTest):
            return run_stdin_tests(self, program, suite, limits, stop_early=stop_early)
        results: list[TestResult] = []
        due = time.monotonic() + limits.total_seconds
        for test in suite.tests:
            if time.monotonic() > due:
                results.append(TestResult(TestStatus.NOT_RUN, "all seconds were used up"))
            elif stop_early and results and not results[-1].passed:
                results.append(TestResult(TestStatus.NOT_RUN, "an earlier test failed"))
            else:
                results.append(self._call(program, test, limits))
                if results[-1].status is TestStatus.COMPILE_ERROR:
                    return [results[-1]] * len(suite.tests)
        return results

    def _call(self, program: str, test: object, limits: Limits) -> TestResult:
        call = test if isinstance(test, CallTest) else as_call(test)
        mark = secrets.token_hex(16)
        request = {
            "exchange": Path(exchange.__file__).read_text(encoding="utf-8"),
            "program": program,
            "function": call.function,
            "arguments": [exchange.encode(part, _no_object) for part in call.arguments],
            "keywords": {name: exchange.encode(part, _no_object) for name, part in call.keywords.items()},
            "mark": mark,
        }
        done = self.run(f"_request = {request!r}\n{_DRIVER}", b"", limits)
        if not done.succeeded:
            return status_of(done)
        line = done.stdout.decode(errors="replace").rstrip("\n").rpartition("\n")[2]
        if not line.startswith(mark):
            return TestResult(TestStatus.EXITED, "the program ended before it returned")
        try:
            got = exchange.decode(json.loads(line.removeprefix(mark)), _no_object)
        except (ValueError, RecursionError):
            return TestResult(TestStatus.RUNTIME_ERROR, "what the program returned is not a value")
        exact = isinstance(test, AssertTest)
        if got == call.expected if exact else matches(got, call.expected):
            return TestResult(TestStatus.PASSED)
        return TestResult(TestStatus.WRONG_ANSWER, f"it returned {got!r:.120}, not {call.expected!r:.120}")


def completed(answer: dict[str, Any], limits: Limits, wall_seconds: float) -> Completed:
    """Result of a program from the JSON object that the server answers.

    Raises:
        SandboxError: the server failed, or answers something else.
    """
    result = answer.get("run_result")
    if answer.get("status") == "SandboxError" or not isinstance(result, dict):
        raise SandboxError(f"the server failed: {str(answer.get('message') or answer)[:300]}")
    out, err = (str(result.get(name) or "").encode(errors="replace") for name in ("stdout", "stderr"))
    code = result.get("return_code")
    ending = Ending.TIMEOUT if result.get("status") == "TimeLimitExceeded" else Ending.EXITED
    if ending is Ending.EXITED and code and err.rstrip().rpartition(b"\n")[2].startswith(b"MemoryError"):
        ending = Ending.MEMORY
    if ending is Ending.EXITED and isinstance(code, int) and code < 0:
        return Completed(Ending.KILLED, None, out, err, 0.0, wall_seconds, -code)
    if len(out) + len(err) > limits.output_bytes:
        ending = Ending.OUTPUT
    exit_code = int(code or 0) if ending is Ending.EXITED else None
    return Completed(ending, exit_code, out, err, float(result.get("execution_time") or 0.0), wall_seconds)


def as_call(test: object) -> CallTest:
    """The call and the value that an assert statement compares: ``assert f(1, [2]) == 3``.

    Raises:
        UnusableTestsError: it is another statement, which needs the engine on this machine.
    """
    assert isinstance(test, AssertTest), "texts for standard input are tested elsewhere"
    call = call_of(test)
    if call is None:
        raise UnusableTestsError(
            "a server can test only statements like assert f(1) == 2, with values; "
            f"engine: local runs {test.source!r:.80}"
        )
    return call


def _no_object(value: object) -> object:
    raise TypeError(f"a {type(value).__name__} is no plain value")
