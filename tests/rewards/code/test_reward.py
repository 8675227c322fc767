"""The reward for programs: scores, labels, failures, settings, and programs in this machine's sandbox."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import pytest

from burnish.errors import RecipeError, UserError
from burnish.grading.call import call
from burnish.grading.reward_runner import RewardRunner
from burnish.grading.self_test import self_test
from burnish.grading.verdict_cache import VerdictCache
from burnish.rewards.code import reward as module
from burnish.rewards.code.reward import NO_CODE, CodeReward
from burnish.rewards.registry import read_rewards
from burnish.rewards.response_view import ResponseView
from burnish.rewards.verdict import Failure, FailureKind, LabelledOutcome
from burnish.sandbox.base import Completed, Level, Limits, SandboxError, TestResult, TestStatus
from burnish.sandbox.local import LocalEngine
from burnish.sandbox.tests import CallTest, TestSuite

ROW = ResponseView("Write add.", "", ["assert add(1, 2) == 3", "assert add(0, 0) == 0", "assert add(2, 2) == 4"])
RIGHT = "```python\ndef add(a, b):\n    return a + b\n```"


@dataclass
class FakeEngine:
    """Engine whose verdicts are given; it keeps what it was asked."""

    statuses: Sequence[TestStatus] = ()
    """One for each test; (): all pass."""
    asked: list[tuple[str, TestSuite, Limits, bool]] = field(default_factory=list)
    level = Level.ISOLATED

    def run(self, program: str, stdin: bytes, limits: Limits) -> Completed:
        raise AssertionError("the reward only tests")

    def test(self, program: str, suite: TestSuite, limits: Limits, *, stop_early: bool = True) -> Sequence[TestResult]:
        self.asked.append((program, suite, limits, stop_early))
        if program == "broken":
            raise SandboxError("no process could be started")
        statuses = self.statuses or [TestStatus.PASSED] * len(suite.tests)
        return [TestResult(status) for status in statuses]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    fake = FakeEngine()
    monkeypatch.setattr(module, "_engine", lambda *settings: fake)
    return fake


def read(**options: object) -> CodeReward:
    [reward] = read_rewards({"name": "code", **options})
    assert isinstance(reward, CodeReward)
    return reward


def graded(reward: CodeReward, text: str, row: ResponseView = ROW) -> tuple[float, str]:
    outcome = reward.score(replace(row, text=text))
    return float(outcome), outcome.label


PASSED, WRONG, LATE, NOT_RUN = (
    TestStatus.PASSED,
    TestStatus.WRONG_ANSWER,
    TestStatus.TIMEOUT,
    TestStatus.NOT_RUN,
)


@pytest.mark.parametrize(
    ("statuses", "of_all", "share", "label"),
    [
        ((PASSED, PASSED, PASSED), 1.0, 1.0, "passed"),
        ((PASSED, WRONG, NOT_RUN), 0.0, 1 / 3, "wrong_answer"),
        ((WRONG, LATE, PASSED), 0.0, 1 / 3, "wrong_answer"),
        ((LATE, WRONG, WRONG), 0.0, 0.0, "timeout"),
    ],
)
def test_the_score_and_the_label_of_tests(
    engine: FakeEngine, statuses: tuple[TestStatus, ...], of_all: float, share: float, label: str
) -> None:
    engine.statuses = statuses
    assert graded(read(), RIGHT) == (of_all, label)
    assert graded(read(score_by="share"), RIGHT) == (share, label)
    assert [stop_early for *_, stop_early in engine.asked] == [True, False]


def test_no_program_is_zero_and_runs_nothing(engine: FakeEngine) -> None:
    for text in ("", "I do not know.", "<think>```python\ndef add(a, b): ...\n```"):
        assert graded(read(), text) == (0.0, NO_CODE)
    assert engine.asked == []


def test_the_settings_reach_the_engine(engine: FakeEngine) -> None:
    reward = read(limits={"cpu_seconds": 1.5}, max_tests=2)
    graded(reward, RIGHT)
    [(program, suite, limits, _)] = engine.asked
    assert program == "def add(a, b):\n    return a + b"
    assert [test.source for test in suite.tests] == [ROW.reference[0], ROW.reference[1]]  # type: ignore[index, union-attr]
    assert limits == Limits(cpu_seconds=1.5)


def test_a_method_of_solution_is_called_as_such(engine: FakeEngine) -> None:
    row = ResponseView("Add.", "", None, {"tests": [{"call": "add", "args": [1, 2], "expected": 3}]})
    graded(read(), "```python\nclass Solution:\n    def add(self, a, b):\n        return a + b\n```", row)
    [(_, suite, _, _)] = engine.asked
    assert suite.tests == (CallTest("Solution.add", (1, 2), {}, 3),)


def test_a_failure_of_the_sandbox_is_no_wrong_answer(engine: FakeEngine) -> None:
    [outcome] = call(read(extract="answer"), [replace(ROW, text="broken")])
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.detail) == (FailureKind.SANDBOX, "SandboxError: no process could be started")


def test_a_row_without_tests_is_unusable(engine: FakeEngine) -> None:
    [outcome] = call(read(), [ResponseView("Add.", RIGHT)])
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureKind.UNUSABLE_ROW


def test_every_label_is_declared(engine: FakeEngine) -> None:
    for status in TestStatus:
        engine.statuses = [status]
        assert graded(read(), RIGHT)[1] in read().labels
    assert NO_CODE in read().labels


def test_the_same_tests_are_the_same_reference() -> None:
    reward = read()
    other = replace(ROW, reference=ROW.reference[:1])  # type: ignore[index]
    assert reward.same_reference(ROW, replace(ROW, extra={"task_id": 3}))
    assert reward.same_reference(ROW, ResponseView("", "", None, {"tests": ROW.reference}))
    assert not reward.same_reference(ROW, other)
    assert reward.same_reference(ResponseView("", ""), ResponseView("", ""))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timeout": 30}, "limits.total_seconds: 30 s; write timeout: 45"),
        ({"limits": {"total_seconds": 100}}, "write timeout: 115"),
        ({"engine": "docker"}, "SandboxFusion"),
        ({"isolation": "none"}, "isolated"),
        ({"max_tests": 0}, "max_tests"),
        ({"isolation": "restricted", "limits": {"processes": 2}}, "one process"),
        ({"limits": {"cpu": 1}}, "cpu_seconds"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        read(**options)


def test_a_worker_with_large_programs_has_no_memory_limit() -> None:
    assert read().bounded
    assert not read(limits={"memory_mib": 8192}).bounded


@pytest.fixture(scope="module")
def runner() -> Iterator[RewardRunner]:
    """The reward in worker processes with the strongest sandbox of this machine."""
    with RewardRunner((strongest(),), workers=1) as runner:
        yield runner


def strongest(**options: object) -> CodeReward:
    """The reward at the highest level that this machine offers."""
    for level in sorted(Level, reverse=True):
        with contextlib.suppress(UserError), LocalEngine(level=level):
            return read(isolation=level.label, **options)
    pytest.skip("no sandbox can be started on this machine")


RUN: dict[str, tuple[str, float, str]] = {
    "right": (RIGHT, 1.0, "passed"),
    "wrong": (RIGHT.replace("+", "-"), 0.0, "wrong_answer"),
    "no code": ("I do not know.", 0.0, "no_code"),
    "broken": ("```python\ndef add(a, b:\n    return\n```", 0.0, "compile_error"),
    "an exception": ("```python\ndef add(a, b):\n    return a / 0\n```", 0.0, "runtime_error"),
    "an exit": ("```python\nimport os\nos._exit(0)\n```", 0.0, "exited"),
    "equal to everything": (
        "```python\nclass E:\n    def __eq__(self, other):\n        return True\n\ndef add(a, b):\n    return E()\n```",
        0.0,
        "wrong_answer",
    ),
}


@pytest.mark.parametrize("name", RUN)
def test_programs_in_worker_processes(runner: RewardRunner, name: str) -> None:
    text, score, label = RUN[name]
    [[verdict]] = runner([[replace(ROW, text=text)]])
    assert (verdict.reward, verdict.labels["code"].name) == (score, label)


def test_a_cached_outcome_keeps_its_label(tmp_path: Path, engine: FakeEngine) -> None:
    engine.statuses = (LATE, NOT_RUN, NOT_RUN)
    outcome = read().score(replace(ROW, text=RIGHT))
    with VerdictCache.open(tmp_path / "v") as cache:
        cache.write("key", "code", [outcome, None, 0.5])
    with VerdictCache.open(tmp_path / "v") as cache:
        found = cache.read("key")
    assert found == [0.0, None, 0.5]
    assert isinstance(found[0], LabelledOutcome)
    assert found[0].label == "timeout"


def test_the_self_test_knows_right_and_wrong_answers() -> None:
    rows = [
        replace(ROW, extra={"code": "def add(a, b):\r\n    return a + b"}),
        ResponseView("Double.", "", None, {"tests": [{"input": "2\n", "output": "4\n"}], "gold": "print(4)"}),
    ]
    with RewardRunner((strongest(),), workers=1) as runner:
        result = self_test(runner, rows)
    assert result.passed
    assert {trial.kind for trial in result.trials} == {
        "the reference",
        "an empty answer",
        "the prompt repeated",
        "another row's reference",
    }
