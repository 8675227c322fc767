"""Every mistake with preferences that a user can make: exit status 2, what was given, the rule, what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

GOOD = {"question": "What is 1 plus 1?", "chosen": "2.", "rejected": "3."}
LABELLED = {"question": "What is 1 plus 1?", "completion": "2.", "label": True}
RANKED = {"question": "What is 1 plus 1?", "responses": ["2.", "3."], "scores": [1, 0]}


def lines(*rows: object) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


ROWS: dict[str, tuple[list[object], list[str], list[str]]] = {
    "no common prompt": (
        [{"chosen": "abc", "rejected": "xyz"}],
        [],
        ["data.jsonl line 1", "responses to different prompts", "filters.prompts=drop"],
    ),
    "a label that is not a boolean": (
        [LABELLED, {**LABELLED, "label": "perhaps"}],
        ["loss=kto"],
        ["data.jsonl line 2", "label is 'perhaps'", "true or false"],
    ),
    "a negative margin": ([GOOD, {**GOOD, "margin": -2}], [], ["data.jsonl line 2", "margin is -2", "swap"]),
    "a missing score": (
        [RANKED, {**RANKED, "scores": [1, None]}],
        ["loss=plackett_luce"],
        ["data.jsonl line 2", "scores[1] is None", "numbers"],
    ),
    "fewer scores than responses": (
        [{**RANKED, "scores": [1]}],
        ["loss=plackett_luce"],
        ["data.jsonl line 1", "2 responses and 1 scores"],
    ),
    "one response where two are needed": ([LABELLED], [], ["one response with a label", "loss=kto"]),
    "three responses where two are needed": (
        [{**RANKED, "responses": ["1", "2", "3"], "scores": [1, 2, 3]}],
        [],
        ["3 responses", "loss=plackett_luce"],
    ),
    "only identical answers": ([{**GOOD, "rejected": "2."}], [], ["no row of", "responses that are all the same"]),
    "identical answers are to stop": (
        [GOOD, {**GOOD, "rejected": "2."}],
        ["filters.identical=error"],
        ["data.jsonl line 2", "filters.identical is error", "filters.identical=drop"],
    ),
    "a missing answer": ([GOOD, {"question": "a", "chosen": "b"}], [], ["data.jsonl line 2", "rejected is missing"]),
    "rows of another stage": ([{"question": "a", "answer": "b"}], [], ["such rows are for sft, not for prefer"]),
    "a pair that is too long": (
        [GOOD, {**GOOD, "rejected": "x" * 400}],
        ["max_length=100"],
        ["longer than 100", "data.jsonl line 2", "overlong=drop"],
    ),
}


@pytest.mark.parametrize("case", ROWS)
def test_rows(fork_server, world, tmp_path, case):
    rows, settings, words = ROWS[case]
    (tmp_path / "data.jsonl").write_text(lines(*rows))
    check(fork_server, words, world, tmp_path, *settings)
    assert not (tmp_path / "run").exists(), "a mistake in the data leaves no run folder behind"


def test_a_reference_with_another_tokenizer(fork_server, world, tmp_path):
    (tmp_path / "data.jsonl").write_text(lines(GOOD))
    words = ["reference_model: builtin:tiny", "tokenizer has other tokens", "remove reference_model"]
    check(fork_server, words, world, tmp_path, "reference_model=builtin:tiny")


def test_a_reference_that_does_not_exist(fork_server, world, tmp_path):
    (tmp_path / "data.jsonl").write_text(lines(GOOD))
    check(fork_server, ["existing folder"], world, tmp_path, f"reference_model={tmp_path / 'nowhere'}")


def check(fork_server, words: list[str], world: Path, folder: Path, *settings: object) -> None:
    """The command ends with status 2 and a message that has all the words."""
    files = ["--model", world / "model", "--data", folder / "data.jsonl", "--output", folder / "run"]
    result = fork_server("prefer", *files, *settings)
    assert result["status"] == 2, result["output"]
    assert "Traceback" not in result["output"]
    assert all(word in result["output"] for word in words), result["output"]
