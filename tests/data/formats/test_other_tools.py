"""Keys and columns of other tools: old function calls, messages that are not learned, media."""

from __future__ import annotations

import json

import pytest

from burnish.data.formats.known import FORMATS
from burnish.data.records import Conversation
from burnish.errors import DataError

FUNCTION = {"name": "add", "parameters": {"type": "object", "properties": {}}}
CALL = {"name": "add", "arguments": '{"a": 2}'}


def chat(*messages: dict[str, object], **columns: object) -> Conversation:
    example = FORMATS["chat"].convert({"messages": list(messages), **columns})
    assert isinstance(example, Conversation)
    return example


def said(role: str, content: str | None, **extra: object) -> dict[str, object]:
    return {"role": role, "content": content, **extra}


@pytest.mark.parametrize("content", ["", None, "I add."])
def test_old_calls_are_calls(content: str | None) -> None:
    new = {"type": "function", "function": {"name": "add", "arguments": {"a": 2}}}
    old = chat(said("user", "q"), said("assistant", content, function_call=CALL), functions=[FUNCTION])
    assert old == chat(
        said("user", "q"),
        said("assistant", content, tool_calls=[new]),
        tools=[{"type": "function", "function": FUNCTION}],
    )
    assert old == chat(
        said("user", "q"), said("assistant", content, function_call=CALL), functions=json.dumps([FUNCTION])
    )


@pytest.mark.parametrize(
    ("message", "columns", "word"),
    [
        ({"function_call": "auto"}, {}, "function_call is text"),
        ({"function_call": {"arguments": "{}"}}, {}, "without a name"),
        ({"function_call": CALL, "tool_calls": [{"function": CALL}]}, {}, "tool_calls and function_call"),
        ({}, {"tools": [FUNCTION], "functions": [FUNCTION]}, "a column tools and a column functions"),
        ({}, {"functions": "{}"}, "functions is an object"),
    ],
)
def test_faulty_calls(message: dict[str, object], columns: dict[str, object], word: str) -> None:
    with pytest.raises(DataError, match=word):
        chat(said("user", "q"), said("assistant", "a", **message), **columns)


@pytest.mark.parametrize("key", ["train", "loss", "training", "trainable", "train_on_turn"])
@pytest.mark.parametrize(("value", "learned"), [(False, False), (0, False), (True, True), (1, True)])
def test_keys_for_learned(key: str, value: object, learned: bool) -> None:
    first, second = chat(
        said("user", "q"), said("assistant", "a", **{key: value}), said("user", "r"), said("assistant", "b")
    ).messages[1::2]
    assert first.trained is learned
    assert second.trained
    assert not first.extra


def test_masked_is_not_learned() -> None:
    messages = chat(
        said("user", "q"), said("assistant", "a", masked=True), said("assistant", "b", masked=False)
    ).messages
    assert [message.trained for message in messages] == [False, False, True]


@pytest.mark.parametrize("key", ["mask", "loss_mask", "loss_scale", "train_detail"])
def test_unclear_keys_are_refused(key: str) -> None:
    with pytest.raises(DataError, match=key) as caught:
        chat(said("user", "q"), said("assistant", "a", **{key: 1}))
    assert "train" in caught.value.remedy


def test_contradictions_and_other_values_are_refused() -> None:
    with pytest.raises(DataError, match="train: True and masked: True"):
        chat(said("user", "q"), said("assistant", "a", train=True, masked=True))
    with pytest.raises(DataError, match=r"the loss 0\.5"):
        chat(said("user", "q"), said("assistant", "a", loss=0.5))


@pytest.mark.parametrize("role", ["assistant", "gpt", "model", "bot"])
def test_every_name_of_the_assistant_may_think(role: str) -> None:
    parts = [{"type": "reasoning", "value": "hm"}, {"type": "text", "value": "a"}]
    answer = {"role": role, "content": parts, "loss_weight": 0.5}
    (message,) = chat(said("user", "q"), answer).messages[1:]
    assert (message.content, message.extra, message.weight) == ("a", {"reasoning_content": "hm"}, 0.5)
    for other in ("human", "function", "function_call"):
        with pytest.raises(DataError, match=f"the role {other}"):
            chat(said("user", "q"), {**answer, "role": other, "loss_weight": 0}, said("assistant", "a"))


@pytest.mark.parametrize("column", ["system", "system_prompt"])
def test_a_system_column_may_repeat_the_message(column: str) -> None:
    messages = said("system", "be brief"), said("user", "q"), said("assistant", "a")
    assert chat(*messages, **{column: "be brief"}) == chat(*messages)
    with pytest.raises(DataError, match=f"a column {column}, and its messages begin with a system message"):
        chat(*messages, **{column: "be long"})


def test_no_calls_are_no_key() -> None:
    answer = chat(said("user", "q"), said("assistant", "a", tool_calls=[])).messages[1]
    assert not answer.extra


@pytest.mark.parametrize("text", ["", " ", "{}"])
def test_empty_arguments_are_none(text: str) -> None:
    call = {"type": "function", "function": {"name": "now", "arguments": text}}
    answer = chat(said("user", "q"), said("assistant", "", tool_calls=[call])).messages[1]
    assert answer.extra["tool_calls"] == [{"type": "function", "function": {"name": "now", "arguments": {}}}]


@pytest.mark.parametrize("flat", [FUNCTION, {"type": "function", **FUNCTION}])
def test_flat_tools_are_those_of_openai(flat: dict[str, object]) -> None:
    messages = said("user", "q"), said("assistant", "a")
    nested = {"type": "function", "function": FUNCTION}
    assert chat(*messages, tools=[flat]) == chat(*messages, tools=[nested]) == chat(*messages, functions=[FUNCTION])
    search = {"type": "web_search", "name": "search"}
    assert chat(*messages, tools=[search]).tools == (search,)


@pytest.mark.parametrize(
    "columns",
    [
        {"videos": ["a.mp4"]},
        {"audios": [b"x"]},
        {"video": ["a.mp4"]},
        {"audio": {"path": "a.wav"}},
    ],
)
def test_videos_and_sounds_are_refused(columns: dict[str, object]) -> None:
    with pytest.raises(DataError, match=f"a column {next(iter(columns))}"):
        chat(said("user", "q"), said("assistant", "a"), **columns)


@pytest.mark.parametrize("name", ["python:3.11", "a.PNG", "https://example.org/a", "data:image/png;base64,x"])
def test_a_mark_makes_an_image_of_a_name(name: str) -> None:
    row = {"question": "q", "answer": "a", "image": name}
    convert = FORMATS["question_answer"].convert
    without, marked = convert(row), convert({**row, "question": "<image>q"})
    assert isinstance(without, Conversation)
    assert without.images == ()
    assert isinstance(marked, Conversation)
    assert marked.images == (name,)
    assert isinstance(FORMATS["question_answer"].convert({**row, "images": [], "image": None}), Conversation)
