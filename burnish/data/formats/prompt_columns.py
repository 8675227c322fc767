"""Columns of a prompt: text or messages, a question, or an instruction with its input and history; the system message.

Used by all formats of prompts and responses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from burnish.data.formats.fields import kind, listed, optional_text, text
from burnish.data.formats.messages import messages, system, tools
from burnish.data.records import Message, TextOrMessages
from burnish.data.row import Row
from burnish.errors import DataError

_TURN = re.compile(r"\n\n(Human|Assistant):")


def untrained(chat_messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Returns the messages as context, without training."""
    return tuple(replace(message, trained=False, weight=1.0) for message in chat_messages)


def prompt_of(row: Row) -> TextOrMessages:
    """Returns the prompt of a row, with its system message."""
    return with_system_message(row, prompt_for(row))


def prompt_for(row: Row, answer: object = None) -> TextOrMessages:
    """Reads the prompt: a question or an instruction is a user's message; ``prompt`` is plain text or messages.

    A text in ``prompt`` is a user's message if ``answer`` is messages. Without these columns, ``messages`` are the
    prompt.
    """
    if row.get("question") is not None:
        return (*history(row.get("history")), _user(text(row, "question"), row))
    if row.get("prompt") is None and row.get("instruction") is not None:
        return instruction_messages(row)
    value = row.get("prompt")
    if isinstance(value, str) and is_transcript(value):
        return transcript(value, "prompt")
    if isinstance(value, str):
        return value if not isinstance(answer, list | dict) else (Message("user", value),)
    if value is None:
        raise DataError(given="prompt is missing", rule="prompt is text or messages", remedy="give the row a prompt")
    return untrained(messages(value, "prompt"))


def instruction_messages(row: Row) -> tuple[Message, ...]:
    """Returns the earlier pairs, and the instruction with its input as a user's message."""
    return (*history(row.get("history")), _user(text(row, "instruction"), row))


def _user(content: str, row: Row) -> Message:
    """A user's message; the column ``input`` follows after a blank line."""
    return Message("user", "\n\n".join(part for part in (content, optional_text(row, "input")) if part))


def history(value: object) -> tuple[Message, ...]:
    """Messages of earlier pairs of instruction and answer, as context."""
    if value is None or value == "":
        return ()
    chat_messages: list[Message] = []
    for index, pair in enumerate(listed(value, "history")):
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(content, str) for content in pair):
            raise DataError(
                given=f"history[{index}] is {kind(pair)}" + (f" of {len(pair)}" if isinstance(pair, list) else ""),
                rule="history is a list of pairs of text: [[instruction, answer], ...]",
                remedy="correct the history",
            )
        chat_messages += [Message("user", pair[0]), Message("assistant", pair[1])]
    return tuple(chat_messages)


def with_system_message(row: Row, prompt: TextOrMessages) -> TextOrMessages:
    """Adds the system message of a row to a prompt of messages.

    Raises:
        DataError: the prompt is plain text, and the row has a system message or tools.
    """
    if not isinstance(prompt, str):
        return system(row, prompt)
    for column in ("system", "system_prompt"):
        if row.get(column):
            raise DataError(
                given=f"the row has a column {column}, and its prompt is plain text",
                rule="a system message comes before messages; plain text has no place for it",
                remedy="write the prompt as messages, or name it question: columns.question=prompt",
            )
    if tools(row):
        raise DataError(
            given="the row has tools, and its prompt is plain text",
            rule="the chat template lists the tools; no template changes plain text",
            remedy="write the prompt as messages, or name it question: columns.question=prompt",
        )
    return prompt


def nested_prompt(row: Row) -> Row:
    """Returns a row of OpenAI's preferences, whose prompt has ``messages`` and ``tools``, with both as columns."""
    value = row.get("prompt")
    if not isinstance(value, Mapping) or "messages" not in value:
        return row
    listed_tools = {} if value.get("tools") is None else {"tools": value["tools"]}
    return {**row, "prompt": value["messages"], **listed_tools}


def is_transcript(value: str) -> bool:
    """True if the text is one of Anthropic's dialogues."""
    return value.startswith(("\n\nHuman:", "\n\nAssistant:"))


def transcript(value: str, column: str) -> tuple[Message, ...]:
    """Parses Anthropic's dialogues, "\\n\\nHuman: ...\\n\\nAssistant: ..."; the space before a turn is removed."""
    _, *parts = _TURN.split(value)
    dialogue = []
    for speaker, content in zip(parts[::2], parts[1::2], strict=True):
        role = "user" if speaker == "Human" else "assistant"
        dialogue.append(Message(role, content.removeprefix(" "), trained=role == "assistant"))
    if column == "prompt" and dialogue and dialogue[-1] == Message("assistant", "", trained=True):
        dialogue.pop()  # a prompt may end with the name of the next speaker
    return untrained(tuple(dialogue)) if column == "prompt" else tuple(dialogue)
