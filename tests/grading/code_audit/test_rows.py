"""Tasks of rows, and the audit of several at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from burnish.errors import RunError
from burnish.grading.code_audit.findings import CodeTask, FindingKind, TaskAudit
from burnish.grading.code_audit.rows import audits, code_task, unusable
from burnish.grading.code_audit.settings import TaskAuditSettings
from burnish.rewards.code.reward import CodeReward
from burnish.rewards.response_view import ResponseView
from burnish.sandbox.base import Limits, SandboxError, TestResult, TestStatus
from burnish.sandbox.tests import AssertTest, CallTest, TestSuite
from tests.grading.code_audit.engine import TrustingEngine

SETTINGS = TaskAuditSettings(attacks=False, mutants=2)


def task(number: int) -> CodeTask:
    suite = TestSuite((AssertTest(f"assert f(1) == {number + 1}"), AssertTest(f"assert f(5) == {number + 5}")))
    return CodeTask(f"row {number}", suite, f"def f(n):\n    return n + {number}\n")


def view(prompt: str, **columns: object) -> ResponseView:
    return ResponseView(prompt, "", extra=columns)


def test_a_task_of_a_row() -> None:
    row = view("Write add.", tests=["assert add(1, 2) == 3"] * 4, gold="def add(a, b): return a + b")
    read = code_task(CodeReward(max_tests=2), row, "line 1")
    assert isinstance(read, CodeTask)
    assert read.gold == "def add(a, b): return a + b"
    assert len(read.suite.tests) == 2


def test_a_solution_that_continues_the_prompt() -> None:
    """As in HumanEval: the column has the body of the function alone."""
    prompt = "def add(a, b):\n    '''Sum.'''\n"
    row = view(
        prompt,
        entry_point="add",
        test="def check(candidate):\n    assert candidate(1, 2) == 3\n",
        gold="    return a + b\n",
    )
    read = code_task(CodeReward(), row, "line 1")
    assert isinstance(read, CodeTask)
    assert read.gold is not None
    assert read.gold.startswith("def add(a, b):")
    [result] = audits([read], [TrustingEngine()], SETTINGS)
    assert not result.has(FindingKind.GOLD_FAILS)


def test_calls_find_the_method() -> None:
    cases = [{"call": "add", "args": [1, 2], "expected": 3}]
    row = view("Write add.", tests=cases, gold="class Solution:\n    def add(self, a, b):\n        return a + b\n")
    read = code_task(CodeReward(), row, "line 1")
    assert isinstance(read, CodeTask)
    [test] = read.suite.tests
    assert isinstance(test, CallTest)
    assert test.function == "Solution.add"


@pytest.mark.parametrize("columns", [{}, {"tests": ["assert ("]}, {"tests": [{"input": "1"}]}])
def test_a_row_without_tests(columns: dict[str, object]) -> None:
    read = code_task(CodeReward(), view("Write add.", **columns), "line 3")
    assert isinstance(read, TaskAudit)
    assert [finding.kind for finding in read.findings] == [FindingKind.UNUSABLE]
    assert read.where == "line 3"


@pytest.mark.parametrize("workers", [1, 3])
def test_results_are_in_order_and_do_not_depend_on_the_workers(workers: int) -> None:
    """The engine runs programs in this process, one at a time."""

    class OneAtATime(TrustingEngine):
        lock = threading.Lock()

        def test(
            self, program: str, suite: TestSuite, limits: Limits, *, stop_early: bool = True
        ) -> Sequence[TestResult]:
            with self.lock:
                return super().test(program, suite, limits, stop_early=stop_early)

    given = [task(0), unusable("row x", "no tests"), *(task(number) for number in range(1, 40))]
    results = list(audits(given, [OneAtATime()], SETTINGS, workers=workers))
    assert [result.where for result in results] == [entry.where for entry in given]
    assert [result.killed + result.accepted > 0 for result in results] == [number != 1 for number in range(41)]


def test_a_slow_program_holds_up_its_own_task_only() -> None:
    """The program of row 0 ends when all other rows are done."""
    done = threading.Event()

    class Waiting(TrustingEngine):
        def test(
            self, program: str, suite: TestSuite, limits: Limits, *, stop_early: bool = True
        ) -> Sequence[TestResult]:
            if program == task(0).gold:
                assert done.wait(60)
            if program == task(9).gold:
                done.set()
            return [TestResult(TestStatus.WRONG_ANSWER)] * len(suite.tests)

    results = list(audits([task(number) for number in range(10)], [Waiting()], SETTINGS, workers=2))
    assert len(results) == 10


def test_a_failure_of_the_sandbox_is_no_fault_of_a_row() -> None:
    class Broken(TrustingEngine):
        def test(
            self, program: str, suite: TestSuite, limits: Limits, *, stop_early: bool = True
        ) -> Sequence[TestResult]:
            raise SandboxError("no process could be started")

    with pytest.raises(RunError, match="the sandbox failed: no process could be started"):
        list(audits([task(number) for number in range(4)], [Broken()], SETTINGS, workers=2))


def test_an_error_of_the_audit_is_not_swallowed() -> None:
    class Broken(TrustingEngine):
        def test(
            self, program: str, suite: TestSuite, limits: Limits, *, stop_early: bool = True
        ) -> Sequence[TestResult]:
            raise RuntimeError("ours")

    with pytest.raises(RuntimeError, match="ours"):
        list(audits([task(number) for number in range(4)], [Broken()], SETTINGS, workers=2))
