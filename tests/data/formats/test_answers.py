from __future__ import annotations

import re

import pytest

from burnish.data.formats.known import FORMATS
from burnish.data.formats.recognize import recognize
from burnish.data.records import Completion, Conversation, Message
from burnish.errors import DataError

USER = {"role": "user", "content": "2+2?"}
ASSISTANT = {"role": "assistant", "content": "4"}


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        (("id", "messages"), "chat"),
        (("conversations", "source"), "chat"),
        (("messages", "tools"), "chat"),
        (("completion", "prompt"), "prompt_completion"),
        (("answer", "question", "topic"), "question_answer"),
    ],
)
def test_columns_are_recognized(columns: tuple[str, ...], name: str) -> None:
    assert recognize(columns).name == name
    assert recognize(columns, name).name == FORMATS[name].name


@pytest.mark.parametrize(
    ("columns", "name", "message"),
    [
        (("question", "anwser"), None, "did you mean to rename anwser -> answer?"),
        (("Messages",), None, "did you mean to rename Messages -> messages?"),
        (("x", "y"), None, "the columns x, y fit no known format"),
        (("x", "y"), None, "chat (messages); alpaca (instruction + output); prompt_completion (prompt + completion)"),
        (("messages", "question", "answer"), None, "fit several formats: chat"),
        (("question", "answer"), "question_anwer", "did you mean question_answer?"),
        (("question", "answer"), "chat", "it needs the columns chat (messages or conversations or conversation)"),
    ],
)
def test_columns_that_are_not_recognized(columns: tuple[str, ...], name: str | None, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        recognize(columns, name)


def convert(**row: object) -> Conversation | Completion:
    return recognize(tuple(row)).convert(row)


def test_every_format_gives_the_same_conversation() -> None:
    expected = Conversation((Message("user", "2+2?"), Message("assistant", "4", trained=True)))
    assert convert(messages=[USER, ASSISTANT], tools=None) == expected
    assert convert(conversations=[USER, ASSISTANT]) == expected
    assert convert(prompt=[USER], completion=[ASSISTANT]) == expected
    assert convert(question="2+2?", answer="4") == expected


def test_only_the_completion_is_learned() -> None:
    row = convert(prompt=[USER, ASSISTANT, USER], completion=[ASSISTANT, USER, ASSISTANT])
    assert isinstance(row, Conversation)
    assert row.turns == (3, 5)
    assert convert(prompt="a", completion="b") == Completion("a", "b")


def test_weights_choose_what_is_learned() -> None:
    row = convert(messages=[USER, {**ASSISTANT, "weight": 0}, USER, {**ASSISTANT, "weight": 1}])
    assert isinstance(row, Conversation)
    assert row.turns == (3,)
    assert row.messages[1].as_mapping() == ASSISTANT


def test_a_first_message_of_the_assistant_is_context() -> None:
    row = convert(messages=[ASSISTANT, USER, ASSISTANT])
    assert isinstance(row, Conversation)
    assert row.turns == (2,)


def test_templates_get_all_keys_of_a_message() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": null}'}}
    answer = {"role": "assistant", "content": None, "tool_calls": [call], "name": None, "reasoning_content": "hm"}
    tools = '[{"type": "function", "function": {"name": "f"}}]'
    row = convert(messages=[USER, answer], tools=tools)
    assert isinstance(row, Conversation)
    parsed = {**call, "function": {"name": "f", "arguments": {"x": None}}}
    assert row.messages[1].as_mapping() == {"role": "assistant", "tool_calls": [parsed], "reasoning_content": "hm"}
    assert row.tools == ({"type": "function", "function": {"name": "f"}},)


def test_one_text_part_is_text() -> None:
    row = convert(messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}]}, ASSISTANT])
    assert isinstance(row, Conversation)
    assert row.messages[0].content == "hi"


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ("hello", "messages is text"),
        ({"user": "2+2?"}, "messages is an object"),
        ({"role": "user"}, "messages[0] (user) has no content"),
        ([], "messages is empty"),
        (["hello"], "messages[0] is text"),
        ([USER, {"content": "4"}], "messages[1] has no role (its keys: content)"),
        ([USER, {"from": "gtp", "value": "4"}], "did you mean gpt?"),
        ([USER, {"role": "asistant", "content": "4"}], "did you mean assistant?"),
        ([{"role": "usr", "content": "4"}], "did you mean user?"),
        ([{"role": 7, "content": "4"}], "messages[0] has the role 7"),
        ([{"role": "user", "content": None}, ASSISTANT], "messages[0] (user) has no content"),
        ([USER, {"role": "assistant"}], "messages[1] (assistant) has no content"),
        ([USER, {"role": "assistant", "content": 4}], "messages[1] (assistant) has a number as content"),
        (
            [{"role": "user", "content": [{"type": "image"}]}, ASSISTANT],
            "1 places for images (marks <image> or parts of the type image), and 0 images",
        ),
        ([USER], "no message is the assistant's (roles: user)"),
        ([ASSISTANT, USER], "the only assistant message to learn is the first message"),
        ([USER, {**ASSISTANT, "weight": 0}], "every assistant message is marked weight 0"),
        ([USER, {**ASSISTANT, "weight": -0.5}], "messages[1] has as weight -0.5"),
        ([USER, {**ASSISTANT, "tool_calls": "f()"}], "messages[1].tool_calls is text"),
        (
            [USER, {**ASSISTANT, "tool_calls": [{"function": {"arguments": "{"}}]}],
            "messages[1].tool_calls[0].function.arguments is text that is not JSON",
        ),
    ],
)
def test_errors_of_conversations(messages: object, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        convert(messages=messages)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "a", "answer": None}, "answer is missing"),
        ({"question": ["a"], "answer": "b"}, "question is a list"),
        ({"prompt": "a", "completion": [ASSISTANT]}, "prompt is text and completion is a list"),
        ({"prompt": "a", "completion": None}, "prompt is text and completion is missing"),
        ({"prompt": [USER], "completion": [USER]}, "no message is the assistant's"),
        ({"prompt": [USER, ASSISTANT], "completion": [USER]}, "or is part of the prompt"),
        ({"messages": [USER, ASSISTANT], "tools": "["}, "tools is text that is not JSON"),
        ({"messages": [USER, ASSISTANT], "tools": {}}, "tools is an object"),
    ],
)
def test_errors_of_rows(row: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        convert(**row)
