"""The check of code tasks, on the recipe of a stage `rl` with planted faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish.builtin.sets import write_rows
from burnish.checks import suite
from burnish.checks.code_tasks import code_tasks_are_sound
from tests.checks.conftest import MakeSubject

SOUND = {
    "prompt": "def add(a, b):",
    "tests": ["assert add(1, 2) == 3", "assert add(-4, 1) == -3", "assert add(0, 5) == 5"],
    "gold": "def add(a, b):\n    return a + b\n",
}
WRONG = {**SOUND, "gold": "def add(a, b):\n    return a - b\n"}
CODE = "reward={name: code, isolation: process, where: {kind: code}}"


@pytest.mark.parametrize(("rows", "passed"), [([SOUND] * 2, True), ([SOUND, WRONG], False)])
def test_solutions_of_the_rows(make_subject: MakeSubject, tmp_path: Path, rows: list[object], passed: bool) -> None:
    data = tmp_path / "tasks.jsonl"
    write_rows(data, [{**row, "kind": "code"} for row in rows])  # type: ignore[dict-item]
    verdict = code_tasks_are_sound(make_subject(CODE, data=str(data), stage="rl"))
    assert verdict.passed is passed, verdict
    assert ("gold_fails" in verdict.shown) is not passed
    assert verdict.measured.startswith("2 rows, 2 with a solution: ")


def test_rows_that_the_reward_does_not_grade(make_subject: MakeSubject, tmp_path: Path) -> None:
    data = tmp_path / "tasks.jsonl"
    write_rows(data, [{**SOUND, "kind": "other"}])
    assert code_tasks_are_sound(make_subject(CODE, data=str(data), stage="rl")).passed is None
    assert code_tasks_are_sound(make_subject("reward=exact", data=str(data), stage="rl")).passed is None


def test_it_is_one_of_the_checks_of_prompts() -> None:
    assert "code tasks" in [check.name for check in suite.OF_PROMPTS]
