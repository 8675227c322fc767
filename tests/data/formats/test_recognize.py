"""Recognition of formats: ambiguous columns, other stages, errors of comparisons and tasks, real data."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from burnish.data.formats.format import Format, Stage
from burnish.data.formats.known import FORMATS
from burnish.data.formats.recognize import recognize
from burnish.data.read import read_rows
from burnish.data.records import Completion, Conversation, Message, Ranked, Task
from burnish.data.row import Row
from burnish.errors import DataError

U, A = {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}


@pytest.mark.parametrize(
    ("columns", "stage", "name"),
    [
        ("messages chosen rejected prompt", "prefer", "preference"),
        ("instruction input output text", "sft", "alpaca"),
        ("prompt response chosen rejected", "reward", "preference"),
        ("question answer", "sft", "question_answer"),
        ("question answer", "rl", "task"),
        ("messages", "rl", "chat"),
        ("messages prompt reference", "rl", "task"),
        ("prompt prompt_id messages", "rl", "chat"),
        ("prompt prompt_id messages category", None, "chat"),
        ("prompt solution messages", "rl", "task"),
        ("prompt completion", "rl", "prompt_completion"),
        ("problem solution answer level", "sft", "question_answer"),
        ("problem solution answer level", "rl", "task"),
        ("text code test_list", "sft", "question_answer"),
        ("text code test_list", "rl", "task"),
        ("prompt completion label", None, "labelled"),
        ("text label", "sft", "text"),
    ],
)
def test_the_stage_decides(columns: str, stage: Stage | None, name: str) -> None:
    assert recognize(columns.split(), stage=stage).name == name


@pytest.mark.parametrize(
    ("columns", "name", "stage", "message", "remedy"),
    [
        ("prompt chosen rejected", None, "sft", "of the format preference", "format=chosen"),
        ("prompt completion label", None, "sft", "are for prefer or reward, not for sft", "format=prompt_completion"),
        ("problem answer", None, "sft", "are for rl, not for sft", "columns={question: problem, answer: answer}"),
        ("prompt", None, "sft", "are for rl, not for sft", "add a column with the answers"),
        ("prompt compltion", None, "sft", "are for rl", "did you mean to rename compltion -> completion?"),
        ("text", None, "rl", "are for sft, not for rl", "name another format"),
        ("messages", "chat", "prefer", "are for sft or rl, not for prefer", "name another format"),
        (
            "messages question answer",
            None,
            "sft",
            "fit several formats: chat, question_answer",
            "name one: format=chat",
        ),
        ("messages chosen rejected prompt", None, "sft", "of the format preference", "or format=chat"),
        ("prompt response chosen rejected", None, "sft", "which does not read chosen", "format=prompt_completion"),
        ("question answer response", None, "sft", "fit the format question_answer twice", "columns={answer: answer}"),
        ("messages conversations", None, "sft", "fit the format chat twice", "columns={messages: conversations}"),
        ("question answer", "preferences", "sft", "format 'preferences' is unknown", "did you mean preference?"),
        ("question answer", "xyz", "sft", "format 'xyz' is unknown", "leave format out"),
        ("question rejected", "preference", "prefer", "format preference was named", "columns: {...}"),
    ],
)
def test_ambiguous_columns_are_errors(
    columns: str, name: str | None, stage: Stage | None, message: str, remedy: str
) -> None:
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        recognize(columns.split(), name, stage=stage)
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "chosen and rejected are the same"),
        ({"prompt": "a", "chosen": "b", "rejected": None}, "rejected is missing"),
        ({"prompt": 3, "chosen": "b", "rejected": "c"}, "prompt is a number"),
        ({"prompt": "a", "chosen": ["b"], "rejected": ["c"]}, "chosen[0] is text"),
        ({"prompt": [U], "chosen": 3, "rejected": "c"}, "chosen is a number, its prompt is messages"),
        ({"prompt": "a", "chosen": 3, "rejected": "c"}, "chosen is a number, its prompt is text"),
        ({"chosen": "a b", "rejected": "c d"}, "have no prompt in common"),
        ({"chosen": "ab", "rejected": "ac"}, "have no prompt in common"),
        ({"chosen": [A], "rejected": [U]}, "have no prompt in common"),
        ({"chosen": [U], "rejected": [U, A]}, "have no prompt in common"),
        ({"chosen": [U, A], "rejected": "a"}, "chosen is a list and rejected is text"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "system": "s"}, "its prompt is plain text"),
        ({"prompt": "a", "responses": ["b", "c"], "scores": [1]}, "2 responses and 1 scores"),
        ({"prompt": "a", "responses": ["b", "c"], "scores": [1, 1]}, "all 2 responses have the same"),
        ({"prompt": "a", "responses": [], "scores": []}, "responses is empty"),
        ({"prompt": "a", "responses": ["b", "c"], "scores": [1, "x"]}, "scores[1] is 'x'"),
        ({"prompt": "a", "responses": ["b", "c"], "ranks": [1, True]}, "ranks[1] is True"),
        ({"prompt": "a", "responses": "b", "scores": [1, 2]}, "responses is text"),
        ({"prompt": "a", "completion": "b", "label": "good"}, "label is 'good'"),
        ({"prompt": "a", "completion": "b", "label": 0.5}, "label is 0.5"),
        ({"prompt": "a", "completion": "b", "label": ["x"]}, "label is a list"),
        ({"prompt": "a", "reference": "b", "extra": "c"}, "extra is text"),
        ({"instruction": "a", "output": None, "input": 3}, "input is a number"),
        ({"instruction": "a", "output": "b", "history": [["x"]]}, "history[0] is a list of 1"),
        ({"instruction": "a", "output": "b", "history": "x"}, "history is text"),
        ({"text": " \n"}, "text is empty"),
        ({"messages": [{"role": "system", "content": "s"}, U, A], "system": "t"}, "begin with a system message"),
        ({"messages": [U, A], "system": 3}, "system is a number"),
        ({"messages": [U, {"from": "function_call", "value": "f()"}]}, "messages[1].value is text that is not JSON"),
        ({"messages": [U, {"from": "function_call", "value": "{}"}]}, "messages[1] is a call without a name"),
        ({"messages": [U, {**A, "train": "no"}]}, "messages[1] has the train 'no'"),
        ({"messages": "[1"}, "messages is text that is not JSON"),
    ],
)
def test_errors_of_rows(row: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        recognize(tuple(row), stage=None).convert(row)
    assert caught.value.rule
    assert caught.value.remedy


def test_the_chosen_answer_alone() -> None:
    chosen = FORMATS["chosen"].convert
    assert chosen({"prompt": "a", "chosen": "b", "rejected": "b"}) == Completion("a", "b")
    talk = Conversation((Message("user", "2+2?"), Message("assistant", "4", trained=True)))
    assert chosen({"chosen": [U, A], "rejected": [U, {**A, "content": "5"}]}) == talk
    assert chosen({"chosen": [U, A], "rejected": [U, A]}) == talk


def test_dialogues_are_split_where_they_differ() -> None:
    b = {"role": "assistant", "content": "5"}
    ranked = FORMATS["preference"].convert({"chosen": [U, A, U, A], "rejected": [U, A, U, b, U, A]})
    assert isinstance(ranked, Ranked)
    assert [len(part) for part in (ranked.prompt, *ranked.responses)] == [3, 1, 3]
    assert not any(message.trained for message in ranked.prompt if isinstance(message, Message))
    earlier = FORMATS["preference"].convert({"chosen": [U, A, U, A], "rejected": [U, A]})
    assert isinstance(earlier, Ranked)
    assert [len(part) for part in (earlier.prompt, *earlier.responses)] == [1, 3, 1]


def test_words_are_not_split() -> None:
    ranked = FORMATS["preference"].convert({"chosen": "Is it? Yes.", "rejected": "Is it? Yesterday."})
    assert ranked == Ranked("Is it?", (" Yes.", " Yesterday."), (1.0, 0.0))


REAL = [
    ("gsm8k/train.jsonl", "question_answer", "task", 7473, 0),
    ("gsm8k/test.jsonl", "question_answer", "task", 1319, 0),
    ("math500/math_test.jsonl", "question_answer", "task", 500, 0),
    ("mbpp/mbpp.jsonl", "question_answer", "task", 974, 0),
    ("hh_rlhf/helpful-base-test.jsonl.gz", "chosen", "preference", 2354, 2),
    ("hh_rlhf/helpful-rejection-sampled-test.jsonl.gz", "chosen", "preference", 2749, 32),
]


@pytest.mark.parametrize(("path", "learned", "later", "count", "ties"), REAL)
def test_real_data_as_it_is(shared_folder: Path, path: str, learned: str, later: str, count: int, ties: int) -> None:
    rows = read_rows(str(shared_folder / "data" / path))
    assert len(rows) == count
    named = learned if learned == "chosen" else None
    examples = [recognize(rows.columns, named).convert(row) for row in rows]
    assert all(isinstance(example, Conversation) and example.turns for example in examples)
    other = recognize(rows.columns, stage="prefer" if later == "preference" else "rl")
    assert other.name == later
    meanings = [meaning(other, row) for row in rows]
    assert meanings.count("chosen and rejected are the same") == ties
    assert sum(isinstance(example, Ranked | Task) for example in meanings) == count - ties


def meaning(other: Format, row: Row) -> object:
    try:
        return other.convert(row)
    except DataError as error:
        return error.given


def test_real_words(shared_folder: Path) -> None:
    row = read_rows(str(shared_folder / "data" / "mbpp" / "mbpp.jsonl"))[0]
    extra = {name: row[name] for name in ("code", "task_id", "test_setup_code", "challenge_test_list")}
    task = Task((Message("user", str(row["text"])),), row["test_list"], extra)
    assert recognize(tuple(row), stage="rl").convert(row) == task
