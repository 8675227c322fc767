"""Formats of one answer: conversations, instructions, questions, completions, documents."""

from __future__ import annotations

from dataclasses import replace

from burnish.data.formats.fields import kind, listed, optional_text, text
from burnish.data.formats.messages import messages, system, tools
from burnish.data.records import Completion, Conversation, Document, Message
from burnish.data.row import Row
from burnish.errors import DataError


def chat(row: Row) -> Conversation:
    """messages (tools, system): OpenAI's form or ShareGPT's, every answer of the assistant is learned."""
    return with_something_to_learn(Conversation(system(row, messages(row.get("messages"), "messages")), tools(row)))


def alpaca(row: Row) -> Conversation:
    """instruction and output (input, history, system): the input follows the instruction after a blank line."""
    asked = "\n\n".join(part for part in (text(row, "instruction"), optional_text(row, "input")) if part)
    spoken = (*_history(row.get("history")), Message("user", asked), _answer(text(row, "output")))
    return Conversation(system(row, spoken))


def question_answer(row: Row) -> Conversation:
    """question and answer (system): a user's message and the answer to it."""
    spoken = (Message("user", text(row, "question")), _answer(text(row, "answer")))
    return Conversation(system(row, spoken))


def prompt_completion(row: Row) -> Conversation | Completion:
    """prompt and completion (tools): two texts, or two lists of messages."""
    prompt, completion = row.get("prompt"), row.get("completion")
    if isinstance(prompt, str) and isinstance(completion, str):
        return Completion(prompt, completion)
    if isinstance(prompt, list) and isinstance(completion, list):
        spoken = untrained(messages(prompt, "prompt")) + messages(completion, "completion")
        return with_something_to_learn(Conversation(spoken, tools(row)))
    raise DataError(
        given=f"prompt is {kind(prompt)} and completion is {kind(completion)}",
        rule="both are text, or both are lists of messages",
        remedy="write both in the same way",
    )


def document(row: Row) -> Document:
    """text: all of it is learned."""
    found = text(row, "text")
    if not found.strip():
        raise DataError(given="text is empty", rule="a document has text", remedy="delete the row")
    return Document(found)


def untrained(spoken: tuple[Message, ...]) -> tuple[Message, ...]:
    """The same messages as context."""
    return tuple(replace(message, trained=False, weight=1.0) for message in spoken)


def with_something_to_learn(conversation: Conversation) -> Conversation:
    """The conversation, if there is an answer to learn in it."""
    if conversation.turns:
        return conversation
    roles = [message.role for message in conversation.messages]
    if "assistant" not in roles:
        given = f"no message is the assistant's (roles: {', '.join(roles)})"
    elif any(message.trained for message in conversation.messages):
        given = "the only assistant message to learn is the first message, which answers nothing"
    else:
        given = "every assistant message is marked weight 0 or is part of the prompt"
    raise DataError(
        given=given,
        rule="a row has at least one assistant message to learn, after a message that it answers",
        remedy="add the assistant's answer, or delete the row",
    )


def _answer(said: str) -> Message:
    return Message("assistant", said, trained=True)


def _history(value: object) -> tuple[Message, ...]:
    """Earlier pairs of instruction and answer; they are context."""
    if value is None or value == "":
        return ()
    spoken: list[Message] = []
    for index, pair in enumerate(listed(value, "history")):
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(said, str) for said in pair):
            raise DataError(
                given=f"history[{index}] is {kind(pair)}" + (f" of {len(pair)}" if isinstance(pair, list) else ""),
                rule="history is a list of pairs of text: [[instruction, answer], ...]",
                remedy="correct the history",
            )
        spoken += [Message("user", pair[0]), Message("assistant", pair[1])]
    return tuple(spoken)
