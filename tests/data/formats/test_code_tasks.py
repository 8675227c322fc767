"""Rows with tests of programs are tasks in a stage rl: tests reach rewards, and stay out of the prompt."""

from __future__ import annotations

import pytest

from burnish.data.formats.format import Stage
from burnish.data.formats.recognize import recognize
from burnish.data.records import Message, Task

ASKED = {
    "MBPP": "text code task_id test_setup_code test_list challenge_test_list",
    "MBPP sanitized": "source_file task_id prompt code test_imports test_list",
    "HumanEval": "task_id prompt canonical_solution entry_point test",
    "APPS": "problem_id question solutions input_output difficulty url starter_code",
    "TACO": "question solutions starter_code input_output difficulty source",
    "LiveCodeBench": "question_title question_content starter_code public_test_cases private_test_cases metadata",
    "CodeContests": "name description public_tests private_tests generated_tests solutions",
    "Codeforces": "id title description input_format official_tests prompt",
    "AceCode": "id source question test_cases",
    "our own": "question tests setup entry_point gold",
    "our own, a plain prompt": "prompt tests code",
    "several columns of tests": "question tests input_output test_cases",
    "inputs and outputs": "prompt inputs outputs",
}
PROMPTS = ("prompt", "question", "text", "question_content", "description")


@pytest.mark.parametrize("name", ASKED)
def test_tests_reach_rewards_and_not_the_prompt(name: str) -> None:
    columns = tuple(ASKED[name].split())
    found = recognize(columns, stage="rl")
    row = {column: f"the {column}" for column in columns}
    task = found.convert(row)
    assert found.name == "task"
    assert isinstance(task, Task)
    asked = task.prompt if isinstance(task.prompt, str) else "".join(str(message.text) for message in task.prompt)
    prompt = next(column for column in PROMPTS if column in columns)
    assert asked == f"the {prompt}"
    given = {column for column in columns if f"the {column}" in (task.reference, *task.extra.values())}
    assert given == set(columns) - {prompt}


@pytest.mark.parametrize(
    ("columns", "stage", "name"),
    [
        ("prompt completion tests", "sft", "prompt_completion"),
        ("text code test_list", "sft", "question_answer"),
        ("text tests", "sft", "text"),
        ("messages tests code", "rl", "chat"),
        ("question answer tests", "sft", "question_answer"),
        ("instruction output tests", "sft", "alpaca"),
    ],
)
def test_other_formats_are_recognized_as_before(columns: str, stage: Stage, name: str) -> None:
    assert recognize(tuple(columns.split()), stage=stage).name == name


def test_messages_keep_their_tests() -> None:
    row = {"messages": [{"role": "user", "content": "Add."}], "tests": ["assert add(1, 2) == 3"], "code": "x"}
    task = recognize(tuple(row), stage="rl").convert(row)
    assert task == Task((Message("user", "Add."),), None, {"tests": ["assert add(1, 2) == 3"], "code": "x"})
