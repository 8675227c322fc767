"""Audit of tasks with planted faults, with an engine in this process. Attacks need a sandbox: `tests/verbs`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from burnish.grading.code_audit.findings import CodeTask, FindingKind, TaskAudit
from burnish.grading.code_audit.settings import TaskAuditSettings
from burnish.grading.code_audit.task import audit
from burnish.sandbox.base import Limits, TestResult, TestStatus
from burnish.sandbox.tests import AssertTest, CallTest, StdinTest, TestSuite
from tests.grading.code_audit.engine import TrustingEngine

ADD = "def add(a, b):\n    return a + b\n"
ABOVE = "def above(xs, k):\n    n = 0\n    for x in xs:\n        if x > k:\n            n += 1\n    return n\n"
SETTINGS = TaskAuditSettings(attacks=False)


def asserts(*sources: str) -> TestSuite:
    return TestSuite(tuple(AssertTest(source) for source in sources))


def audited(suite: TestSuite, gold: str | None, settings: TaskAuditSettings = SETTINGS, seed: int = 0) -> TaskAudit:
    return audit([TrustingEngine()], CodeTask("row", suite, gold), settings, seed)


def kinds(result: TaskAudit) -> list[str]:
    return [str(kind) for kind in FindingKind if result.has(kind)]


GOOD = [
    (asserts("assert add(1, 2) == 3", "assert add(-4, 1) == -3", "assert add(0, 0) == 0"), ADD),
    (TestSuite((CallTest("add", (1, 2), {}, 3), CallTest("add", (5, -1), {}, 4))), ADD),
    (
        TestSuite((CallTest("Solution.add", (1,), {"b": 2}, 3), CallTest("Solution.add", (5,), {"b": 2}, 7))),
        "class Solution:\n    def add(self, a, b):\n        return a + b\n",
    ),
    (
        TestSuite((StdinTest("2\n1 2\n", "3\n"), StdinTest("1\n7\n", "7\n"))),
        "input()\nprint(sum(map(int, input().split())))",
    ),
]


@pytest.mark.parametrize(("suite", "gold"), GOOD, ids=["asserts", "calls", "method", "stdin"])
def test_a_sound_task_has_no_findings(suite: TestSuite, gold: str) -> None:
    result = audited(suite, gold)
    assert result.findings == ()
    assert result.passes
    assert result.killed > 0 == result.accepted
    assert result.num_tests == len(suite.tests)


def test_a_wrong_solution() -> None:
    result = audited(
        asserts("assert add(1, 2) == 3", "assert add(5, 0) == 5", "assert add(2, 2) == 4"), ADD.replace("+", "-")
    )
    assert kinds(result) == ["gold_fails"]
    assert "test 1 of 3: wrong_answer" in result.findings[0].detail
    assert result.gold_seconds is None


def test_a_solution_that_is_no_program() -> None:
    engine = TrustingEngine()
    result = audit([engine], CodeTask("row", asserts("assert add(1, 2) == 3"), "def add("), SETTINGS)
    assert "gold_fails" in kinds(result)
    assert engine.programs.count("def add(") == 1


def test_a_solution_that_draws() -> None:
    gold = "import random\ndef pick(xs):\n    return random.choice(xs)\n"
    result = audited(asserts("assert pick(['a', 'b']) == 'a'"), gold, TaskAuditSettings(repeats=8, attacks=False))
    assert kinds(result)[0] == "flaky"


def test_a_solution_that_depends_on_the_engine() -> None:
    """Engines hash text differently; every second run is on the other."""

    class Other(TrustingEngine):
        def test(self, program, suite, limits, *, stop_early=True):  # type: ignore[no-untyped-def]
            return super().test(program.replace("EXACT", "0"), suite, limits, stop_early=stop_early)

    task = CodeTask("row", asserts("assert add(1, 2) == 3"), "EXACT = 1\ndef add(a, b):\n    return (a + b) * EXACT\n")
    assert kinds(audit([TrustingEngine(), TrustingEngine()], task, SETTINGS))[0] != "flaky"
    task = CodeTask("row", task.suite, "def add(a, b):\n    return (a + b) if 'EXACT' != '0' else 0\n")
    assert kinds(audit([TrustingEngine(), Other()], task, SETTINGS))[0] == "flaky"


@pytest.mark.parametrize(("lines", "slow"), [(4000, False), (7500, True)])
def test_a_solution_near_the_limit(lines: int, slow: bool) -> None:
    """Two executed lines for each pass; half of the limit is 10 000."""
    gold = f"def add(a, b):\n    for i in range({lines}):\n        n = i\n    return a + b\n"
    suite = TestSuite((CallTest("add", (1, 2), {}, 3), CallTest("add", (3, 4), {}, 7)))
    result = audited(suite, gold, TaskAuditSettings(attacks=False, mutants=0))
    assert kinds(result) == (["slow"] if slow else [])


def test_tests_that_do_not_notice_a_boundary() -> None:
    result = audited(asserts("assert above([1, 5, 9], 4) == 2", "assert above([1, 8], 10) == 0"), ABOVE)
    [finding] = [finding for finding in result.findings if "Gt -> GtE" in finding.detail]
    assert finding.kind is FindingKind.ACCEPTS_WRONG
    assert "above(" in finding.detail
    assert "if x >= k" in finding.source
    better = asserts(
        "assert above([1, 5, 9], 4) == 2", "assert above([1, 8], 10) == 0", "assert above([7, 7, 8], 7) == 1"
    )
    assert not audited(better, ABOVE).has(FindingKind.ACCEPTS_WRONG)


def test_a_mutant_that_is_equivalent_is_not_reported() -> None:
    """`max(b, a)` for `a >= b` and for `a > b`."""
    gold = "def larger(a, b):\n    if a > b:\n        return a\n    return b\n"
    result = audited(asserts("assert larger(1, 2) == 2", "assert larger(3, 2) == 3", "assert larger(4, 4) == 4"), gold)
    assert result.findings == ()
    assert result.perhaps_equivalent == 1


@pytest.mark.parametrize("gold", [ABOVE, None], ids=["with a solution", "without"])
def test_one_test_accepts_a_constant(gold: str | None) -> None:
    result = audited(asserts("assert above([1, 5, 9], 4) == 2"), gold)
    assert any("constant: 2, which tests expect" in finding.detail for finding in result.findings)


@dataclass
class Accepting(TrustingEngine):
    """Runs nothing: accepts the programs with one of some texts. Attacks would end this process."""

    texts: tuple[str, ...]

    def test(self, program: str, suite: TestSuite, limits: Limits, *, stop_early: bool = True) -> Sequence[TestResult]:
        status = TestStatus.PASSED if any(text in program for text in self.texts) else TestStatus.WRONG_ANSWER
        return [TestResult(status)] * len(suite.tests)


WITH_ATTACKS = TaskAuditSettings(mutants=0)
TASK = CodeTask("row", asserts("assert add(1, 2) == 3"), None)


def test_tests_that_check_nothing() -> None:
    """Then attacks that pass say nothing about the sandbox."""
    result = audit([Accepting(("",))], TASK, WITH_ATTACKS)
    assert [finding.kind for finding in result.findings if finding.program.startswith("control")] == ["accepts_wrong"]
    assert not result.has(FindingKind.ATTACK_PASSES)


def test_an_attack_that_passes() -> None:
    result = audit([Accepting(("class Equal:",))], TASK, WITH_ATTACKS)
    [finding] = [finding for finding in result.findings if finding.kind is FindingKind.ATTACK_PASSES]
    assert "an object that equals everything" in finding.detail
    assert result.attacks > 30


@pytest.mark.parametrize(("texts", "passes"), [(("f_back",), True), (("f_back", "return 3"), False)])
def test_an_attack_that_reads_may_be_lucky_where_a_constant_is(texts: tuple[str, ...], passes: bool) -> None:
    assert audit([Accepting(texts)], TASK, WITH_ATTACKS).has(FindingKind.ATTACK_PASSES) == passes


def test_a_task_without_a_solution() -> None:
    result = audited(asserts("assert add(1, 2) == 3", "assert add(5, 0) == 5", "assert add(2, 3) == 5"), None)
    assert kinds(result) == ["no_gold"]
    assert result.passes


def test_tests_that_cannot_be_run() -> None:
    result = audited(asserts("assert broken(1)"), ADD)
    assert kinds(result) == ["unusable"]


def test_tests_that_name_the_clock() -> None:
    suite = TestSuite(
        (AssertTest("import time\nassert add(1, 2) == 3 and time.time() > 0"), AssertTest("assert add(1, 1) == 2"))
    )
    [finding] = [f for f in audited(suite, ADD).findings if f.kind is FindingKind.DEPENDS]
    assert finding.detail.endswith(": time")


def test_the_seed_determines_the_findings() -> None:
    suite = asserts("assert above([1, 5, 9], 4) == 2")
    one, other = (audited(suite, ABOVE, TaskAuditSettings(attacks=False, mutants=6), seed=3) for _ in range(2))
    assert one.findings == other.findings
