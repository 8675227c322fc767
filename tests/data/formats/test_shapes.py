"""Rows of other tools and public data sets, in every stage: read as what they are, or refused with the stage that reads
them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.data.formats.format import Stage
from burnish.data.formats.known import FORMATS
from burnish.data.formats.meanings import MEANINGS
from burnish.data.formats.recognize import recognize
from burnish.data.prompts import as_task
from burnish.data.records import AnyExample, Completion, Conversation, Task
from burnish.data.row import Row
from burnish.errors import DataError
from tests.data.formats.shapes import SHAPES, A, B, U

PAGE = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
TABLE = re.findall(
    r"^\| (.+?) \| (.+?) \| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$",
    PAGE.split("### Rows of other tools")[1].split("\n## ")[0],
    re.M,
)
LINES = {
    name: (columns, dict(zip(("sft", "prefer", "reward", "rl"), cells, strict=True)))
    for name, columns, *cells in TABLE[2:]
}
STAGES: tuple[Stage, ...] = ("sft", "prefer", "reward", "rl")
REFUSED = "–"


def outcome(row: Row, stage: Stage, *, convert: bool = True) -> tuple[str, AnyExample | DataError | None]:
    """Name of the format that reads a row in a stage, and what it says; or the error."""
    try:
        found = recognize(tuple(row), stage=stage)
        return found.name, found.convert(row) if convert else None
    except DataError as error:
        return REFUSED, error


def test_the_table_has_every_shape() -> None:
    assert list(LINES) == list(SHAPES)
    assert {name: columns for name, (columns, _) in LINES.items()} == {
        name: ", ".join(row) for name, (row, _) in SHAPES.items()
    }


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_in_every_stage(name: str) -> None:
    row, meaning = SHAPES[name]
    found = {stage: outcome(row, stage) for stage in STAGES}
    assert {stage: format for stage, (format, _) in found.items()} == LINES[name][1]
    readers = [stage for stage, (format, _) in found.items() if format != REFUSED]
    assert readers
    for stage, (format, said) in found.items():
        if isinstance(said, DataError):
            assert any(re.search(rf"\b{reader}\b", said.rule) for reader in readers), (stage, said)
        elif stage == "rl" and not isinstance(meaning, Task):
            assert isinstance(meaning, Conversation | Completion)
            expected, task = as_task(meaning), as_task(said)
            assert (task.prompt, task.reference) == (expected.prompt, expected.reference)
        else:
            assert said == meaning, (stage, format)


@given(
    base=st.sampled_from(
        [("messages",), ("conversations",), ("question", "answer"), ("prompt", "completion"), ("instruction", "output")]
    ),
    other=st.sampled_from(sorted(MEANINGS)),
    harmless=st.lists(st.sampled_from(["id", "source", "level"]), unique=True),
)
def test_no_column_with_a_meaning_is_left_unread(base: tuple[str, ...], other: str, harmless: list[str]) -> None:
    """Whatever stands beside the columns of a conversation: a format that reads it, or an error."""
    columns = (*harmless, *base, other)
    _, error = outcome(dict.fromkeys(columns), "sft", convert=False)
    if isinstance(error, DataError):
        assert other in error.given
    else:
        unread = recognize(columns).unused(columns)
        assert other not in unread
        assert set(unread) == set(harmless)


@pytest.mark.parametrize("base", ["prompt chosen rejected", "messages chosen rejected"])
def test_an_input_beside_a_prompt_is_not_left_unread(base: str) -> None:
    for column in ("input", "history"):
        with pytest.raises(DataError, match=f"does not read {column}: a part of the prompt"):
            recognize([*base.split(), column], stage="prefer")
        assert recognize(["question", *base.split()[1:], column], stage="prefer").name == "preference"


@pytest.mark.parametrize(
    ("columns", "name"), [("messages label", "chat"), ("question answer history", "question_answer")]
)
def test_a_named_format_leaves_columns_unread(columns: str, name: str) -> None:
    *_, last = given = columns.split()
    assert recognize(given, name).unused(given) == (last,)


@pytest.mark.parametrize(
    ("row", "stage", "message"),
    [
        ({"messages": [A], "answer": "4"}, "rl", "the only message is the assistant's"),
        ({"messages": [U, A, U], "label": True}, "prefer", "the roles of the messages are user, assistant, user"),
        ({"messages": [A], "label": True}, "prefer", "the roles of the messages are assistant"),
        ({"prompt": [U], "chosen": [A, U], "rejected": U}, "prefer", "rejected begins with a message of the role user"),
        ({"prompt": [U], "completion": [U], "label": True}, "prefer", "completion begins with a message of the role"),
        ({"messages": [U], "ground_truth": "4"}, "sft", "the last message is the user's, and a column has"),
        ({"messages": [U], "answer": "4", "ground_truth": "5"}, "rl", "answer and ground_truth are both references"),
        ({"messages": [U], "answer": "4", "reward_model": {"ground_truth": "5"}}, "rl", "reward_model.ground_truth"),
        ({"prompt": "2+2=", "completion": " 4", "system": "s"}, "sft", "has a column system, and its prompt is plain"),
        ({"prompt": "2+2=", "completion": " 4", "tools": [{"name": "f"}]}, "sft", "has tools, and its prompt is plain"),
        (
            {"instruction": "2+2?", "completions": ["4", "5"]},
            "prefer",
            "responses[0] is text, and the row has no scores",
        ),
    ],
)
def test_mistakes_are_called_what_they_are(row: Row, stage: Stage, message: str) -> None:
    found, error = outcome(row, stage)
    assert isinstance(error, DataError), found
    assert message in error.given


def part(kind: str, value: object) -> Row:
    return {"type": kind, "value": value}


@pytest.mark.parametrize(
    ("message", "given"),
    [
        ({"role": "assistant", "content": [part("text", "a"), part("reasoning", "b")]}, "in the order text, reasoning"),
        ({"role": "assistant", "content": [part("tool_call", "{"), part("text", "b")]}, "in the order tool_call, text"),
        ({"role": "assistant", "content": [part("tool_call", "{")]}, "text that is not JSON"),
        ({"role": "assistant", "content": [part("tool_call", "{}")]}, "a part tool_call that is an object"),
        ({"role": "assistant", "content": [part("sound", "a")]}, "messages[1].content[0] has the type 'sound'"),
        ({"role": "assistant", "content": [part("text", 1)]}, "its value is a number"),
        ({"role": "user", "content": [part("reasoning", "a")]}, "the role user and a part of the type reasoning"),
        ({"role": "user", "content": "a", "loss_weight": 1.0}, "the role user and loss_weight 1.0"),
        ({"role": "assistant", "content": "a", "loss_weight": 1, "weight": 1}, "has weight and loss_weight"),
        ({"role": "assistant", "content": [part("reasoning", "a")], "reasoning_content": "b"}, "reasoning_content and"),
    ],
)
def test_parts_that_cannot_be_read(message: Row, given: str) -> None:
    found, error = outcome({"messages": [U, message, A]}, "sft")
    assert isinstance(error, DataError), found
    assert given in error.given


def test_whole_dialogues_beside_messages() -> None:
    """Where the messages repeat the chosen dialogue, they are not the prompt."""
    row = {"messages": [U, A], "chosen": [U, A], "rejected": [U, B]}
    assert recognize(tuple(row), stage="prefer").convert(row) == SHAPES["TRL preference, implicit prompt"][1]


def test_an_answer_at_the_end_of_a_prompt_is_its_reference() -> None:
    rl = recognize(("messages",), stage="rl")
    assert rl.convert({"messages": [U, A]}) == Task(rl.convert({"messages": [U]}).prompt, "4")  # type: ignore[union-attr]
    assert as_task(FORMATS["chat"].convert({"messages": [U, A]})) == rl.convert({"messages": [U, A]})


def test_a_row_without_an_answer_says_which_column_has_it() -> None:
    read = recognize(("question", "answer", "target"))
    with pytest.raises(DataError, match="answer is missing; target looks like it") as caught:
        read.convert({"question": "a", "target": "b"})
    assert "columns={answer: target}" in caught.value.remedy
    with pytest.raises(DataError, match="answer is missing\n"):
        read.convert({"question": "a", "other": "b"})


@pytest.mark.parametrize("column", ["context", "history", "chat_template_kwargs"])
@pytest.mark.parametrize("base", ["question answer", "messages", "prompt reference", "instruction reference"])
def test_what_changes_a_prompt_is_not_left_to_rewards(base: str, column: str) -> None:
    columns = [*base.split(), column]
    if column == "history" and base.startswith(("question", "instruction")):
        row: dict[str, object] = {**dict.fromkeys(base.split(), "c"), "history": [["a", "b"]]}
        task = recognize(columns, stage="rl").convert(row)
        assert isinstance(task, Task)
        assert [message.content for message in task.prompt if not isinstance(message, str)] == ["a", "b", "c"]
        assert "history" not in task.extra
        return
    with pytest.raises(DataError, match=f"does not read {column}") as caught:
        recognize(columns, stage="rl")
    name = recognize(base.split(), stage="rl").name
    assert f"format={name} to give {column} to rewards alone" in caught.value.remedy
    assert ("columns={input: context}" in caught.value.remedy) == (base[0] == "i" and column == "context")
    assert recognize(columns, name, stage="rl").unused(columns) == ()


def test_a_context_can_be_the_input() -> None:
    with pytest.raises(DataError, match="does not read context") as caught:
        recognize(["question", "chosen", "rejected", "context"], stage="prefer")
    assert "columns={input: context}" in caught.value.remedy


def test_all_other_columns_beside_messages_go_to_rewards() -> None:
    row = {"messages": [U, A], "prompt": "2+2?", "question": "why?", "prompt_id": "x"}
    task = recognize(tuple(row), "chat", stage="rl").convert(row)
    assert isinstance(task, Task)
    assert (task.reference, task.extra) == ("4", {key: value for key, value in row.items() if key != "messages"})
