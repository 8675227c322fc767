"""Rewards tried on known answers: good ones pass, and those that pay for anything are found out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from burnish.data.records import Message, Task
from burnish.grading.reward_runner import RewardRunner
from burnish.grading.self_test import SelfTestResult, self_test
from burnish.rewards.registry import read_rewards
from burnish.rewards.response_view import ResponseView
from burnish.rewards.response_views import response_view

MATH = Path(__file__).parents[3] / "shared" / "data" / "math500" / "math_test.jsonl"
ROWS = [
    ResponseView("What is 2 + 2?", "", "#### 4", {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}),
    ResponseView(
        "What is half of five?", "", "2.5", {"instruction_id_list": ["detectable_format:title"], "kwargs": [{}]}
    ),
    ResponseView(
        "What is the root of 2?", "", r"\sqrt{2}", {"instruction_id_list": ["startend:quotation"], "kwargs": [{}]}
    ),
]


def tried(settings: object, rows: list[ResponseView] = ROWS) -> SelfTestResult:
    with RewardRunner(read_rewards(settings), workers=1) as runner:
        return self_test(runner, rows)


def test_good_rewards_pass() -> None:
    report = tried(["math", {"name": "exact", "when": {"metric": "math", "min": 1}}, "repetition"])
    assert report.passed
    assert report.untried == ("repetition",)
    assert list(report.lines()) == [
        "math: an empty answer is graded wrong in 3 of 3 rows",
        "math: the prompt repeated is graded wrong in 3 of 3 rows",
        "math: the reference is graded right in 3 of 3 rows",
        "math: another row's reference is graded wrong in 3 of 3 rows",
        "exact: an empty answer is graded wrong in 3 of 3 rows",
        "exact: the prompt repeated is graded wrong in 3 of 3 rows",
        "exact: the reference is graded right in 3 of 3 rows",
        "exact: another row's reference is graded wrong in 3 of 3 rows",
        "repetition: not tested; no answer is known to be right or wrong",
    ]


def test_a_reward_that_pays_for_anything_is_found_out(tmp_path: Path) -> None:
    file = tmp_path / "r.py"
    file.write_text(
        "def generous(answer):\n    return 1\n"
        "def stingy(answer):\n    return 0\n"
        "def broken(answer):\n    raise ValueError(answer.text)\n"
        "def inside(completions, answer, **columns):\n"
        "    return [float(want in said or not said) for want, said in zip(answer, completions)]\n"
    )
    assert {trial.kind for trial in tried(f"{file}:stingy").failed} == {"the reference"}
    assert {trial.kind for trial in tried(f"{file}:inside").failed} == {"an empty answer"}
    assert len(tried(f"{file}:broken").failed) == 12
    generous = tried(f"{file}:generous")
    assert {trial.kind for trial in generous.failed} == {
        "an empty answer",
        "the prompt repeated",
        "another row's reference",
    }
    assert "  generous, row 0: an empty answer, '': graded 1.0" in list(generous.lines())
    assert list(generous.lines())[-1] == "  and 4 more"


def test_an_unusable_reference_is_reported() -> None:
    report = tried("choice", [ResponseView("Which?", "", "B"), ResponseView("Which?", "", "Paris")])
    assert {trial.row for trial in report.failed} == {1}
    assert any("none of the letters" in line for line in report.lines())


def test_instructions_are_not_followed_by_nothing_or_a_copy() -> None:
    assert tried("instructions").passed


def test_references_that_are_the_same_number_are_no_wrong_answers() -> None:
    rows = [ResponseView("How much?", "", "x = 5"), ResponseView("How many?", "", "5.0")]
    report = tried("math", rows)
    assert report.passed
    assert "another row's reference" not in {trial.kind for trial in report.trials}


@pytest.mark.skipif(not MATH.is_file(), reason="MATH-500 is not here")
def test_the_math_reward_passes_on_real_rows() -> None:
    rows = [json.loads(line) for line in MATH.read_text(encoding="utf-8").splitlines()[:60]]
    report = tried("math", [ResponseView(row["problem"], "", row["answer"]) for row in rows])
    assert report.failed == ()
    assert len(report.trials) == 4 * len(rows)


def test_rows_become_answers() -> None:
    task = Task((Message("system", "Be brief."), Message("user", "2 + 2?")), "4", {"level": 1})
    answer = response_view(task, "It is 4.", [5, 6])
    assert answer.prompt == ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"})
    assert answer.asked == "Be brief.\n\n2 + 2?"
    assert (answer.reference, answer.extra, answer.token_ids) == ("4", {"level": 1}, (5, 6))
    plain = response_view(Task("2 + 2 ="), " 4")
    assert (plain.prompt, plain.token_ids, plain.is_conversational) == ("2 + 2 =", None, False)
