"""The engine on a server: against a stand-in with SandboxFusion's interface, which runs programs as plain processes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from burnish.errors import RecipeError, RunError
from burnish.sandbox.base import Ending, Limits, SandboxError, TestStatus
from burnish.sandbox.sandbox_fusion import SandboxFusion, as_call, completed
from burnish.sandbox.tests import AssertTest, CallTest, StdinTest, TestSuite

LIMITS = Limits(wall_seconds=5.0)


class _StandIn(BaseHTTPRequestHandler):
    """Answers POST /run_code as the server does."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/run_code"
        assert body["language"] == "python"
        self._answer(_run(body))

    def _answer(self, answer: dict[str, Any]) -> None:
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""


def _run(body: dict[str, Any]) -> dict[str, Any]:
    if "break the server" in body["code"]:
        return {"status": "SandboxError", "message": "no runner", "run_result": None}
    try:
        done = subprocess.run(
            [sys.executable, "-c", body["code"]],
            input=body["stdin"],
            capture_output=True,
            text=True,
            timeout=body["run_timeout"],
            check=False,
        )
    except subprocess.TimeoutExpired:
        result = {"status": "TimeLimitExceeded", "execution_time": body["run_timeout"], "return_code": None}
        return {"status": "Failed", "message": "", "run_result": {**result, "stdout": "", "stderr": ""}}
    status = "Failed" if done.returncode else "Success"
    result = {"status": "Finished", "execution_time": 0.1, "return_code": done.returncode}
    return {"status": status, "message": "", "run_result": {**result, "stdout": done.stdout, "stderr": done.stderr}}


@contextmanager
def stand_in() -> Iterator[str]:
    """Context manager of a server; gives its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _StandIn)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def engine() -> Iterator[SandboxFusion]:
    with stand_in() as url, SandboxFusion(url) as found:
        yield found


def test_a_script(engine: SandboxFusion) -> None:
    done = engine.run("print(input()[::-1])", b"abc", LIMITS)
    assert (done.succeeded, done.stdout) == (True, b"cba\n")
    assert engine.run("raise SystemExit(3)", b"", LIMITS).exit_code == 3
    assert engine.run("while True: pass", b"", LIMITS.model_copy(update={"wall_seconds": 0.5})).ending is Ending.TIMEOUT


def test_texts_for_standard_input(engine: SandboxFusion) -> None:
    suite = TestSuite((StdinTest("2\n", "4\n"), StdinTest("3\n", "9\n"), StdinTest("4\n", "17\n")))
    results = engine.test("print(int(input()) ** 2)", suite, LIMITS, stop_early=False)
    assert [result.status for result in results] == ["passed", "passed", "wrong_answer"]


def test_calls_give_values_that_are_compared_here(engine: SandboxFusion) -> None:
    suite = TestSuite(
        (
            CallTest("f", ([3, 1, 2],), {}, [1, 2, 3]),
            CallTest("f", ({2, 1},), {"reverse": True}, [2, 1]),
            CallTest("f", ([2**70, 1.5],), {}, [1.5, 2**70]),
        )
    )
    program = "def f(xs, reverse=False):\n    print('noise')\n    return sorted(xs, reverse=reverse)"
    assert all(result.passed for result in engine.test(program, suite, LIMITS))


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("def f(x): import os; os._exit(0)", TestStatus.EXITED),
        ("def f(x): raise SystemExit(0)", TestStatus.EXITED),
        ("def f(x): return x", TestStatus.WRONG_ANSWER),
        ("def f(x): return 1 / 0", TestStatus.RUNTIME_ERROR),
        ("def f(x:", TestStatus.COMPILE_ERROR),
        ("class E:\n    def __eq__(self, other): return True\ndef f(x): return E()", TestStatus.RUNTIME_ERROR),
        ("def f(x): print('passed'); print(4)", TestStatus.WRONG_ANSWER),
    ],
)
def test_what_fails(engine: SandboxFusion, program: str, status: TestStatus) -> None:
    suite = TestSuite((AssertTest("assert f(2) == 4"), AssertTest("assert f(3) == 6")))
    first, second = engine.test(program, suite, LIMITS)
    assert first.status is status
    assert second.status is (status if status is TestStatus.COMPILE_ERROR else TestStatus.NOT_RUN)


def test_a_failure_of_the_server_is_no_verdict(engine: SandboxFusion) -> None:
    with pytest.raises(SandboxError, match="no runner"):
        engine.run("'break the server'", b"", LIMITS)
    with pytest.raises(SandboxError, match="failed"):
        completed({"status": "Success"}, LIMITS, 0.0)
    nobody = SandboxFusion("http://127.0.0.1:9", wait_seconds=0.2)
    with pytest.raises(SandboxError):
        nobody.run("1", b"", LIMITS)
    with pytest.raises(RunError), nobody:  # a run is told before it begins
        pass


def test_statements_that_a_server_cannot_test() -> None:
    assert as_call(AssertTest("assert (f(1, b=[2]) == {3: (4,)})")) == CallTest("f", (1,), {"b": [2]}, {3: (4,)})
    for source in ("assert f(x) == 1", "assert f(1)", "x = 1\nassert f(x) == 1", "assert f(1) == 1 == 1"):
        with pytest.raises(SandboxError, match="engine: local"):
            as_call(AssertTest(source))


def test_an_address_that_is_none() -> None:
    with pytest.raises(RecipeError, match="http"):
        SandboxFusion("sandbox")
