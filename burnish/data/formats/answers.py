"""Formats of a single response: conversations, instructions, questions, completions, documents."""

from __future__ import annotations

from dataclasses import replace

from burnish.data.formats.fields import kind, listed, optional_text, text
from burnish.data.formats.messages import messages, system, tools
from burnish.data.records import Completion, Conversation, Document, Message
from burnish.data.row import Row
from burnish.errors import DataError


def chat(row: Row) -> Conversation:
    """Columns messages (tools, system) in the format of OpenAI or ShareGPT; all assistant messages are learned."""
    return with_something_to_learn(Conversation(system(row, messages(row.get("messages"), "messages")), tools(row)))


def alpaca(row: Row) -> Conversation:
    """Columns instruction and output (input, history, system); the input follows the instruction after a blank line."""
    instruction = "\n\n".join(part for part in (text(row, "instruction"), optional_text(row, "input")) if part)
    chat_messages = (*_history(row.get("history")), Message("user", instruction), _answer(text(row, "output")))
    return Conversation(system(row, chat_messages))


def question_answer(row: Row) -> Conversation:
    """Columns question and answer (system): a user's message and the answer to it."""
    chat_messages = (Message("user", text(row, "question")), _answer(text(row, "answer")))
    return Conversation(system(row, chat_messages))


def prompt_completion(row: Row) -> Conversation | Completion:
    """Columns prompt and completion (tools): two texts, or two lists of messages."""
    prompt, completion = row.get("prompt"), row.get("completion")
    if isinstance(prompt, str) and isinstance(completion, str):
        return Completion(prompt, completion)
    if isinstance(prompt, list) and isinstance(completion, list):
        chat_messages = untrained(messages(prompt, "prompt")) + messages(completion, "completion")
        return with_something_to_learn(Conversation(chat_messages, tools(row)))
    raise DataError(
        given=f"prompt is {kind(prompt)} and completion is {kind(completion)}",
        rule="both are text, or both are lists of messages",
        remedy="write both in the same way",
    )


def document(row: Row) -> Document:
    """Column text, which is learned as a whole."""
    content = text(row, "text")
    if not content.strip():
        raise DataError(given="text is empty", rule="a document has text", remedy="delete the row")
    return Document(content)


def untrained(chat_messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Returns the messages as context, without training."""
    return tuple(replace(message, trained=False, weight=1.0) for message in chat_messages)


def with_something_to_learn(conversation: Conversation) -> Conversation:
    """Returns the conversation; raises DataError if it has no learned turn."""
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


def _answer(content: str) -> Message:
    return Message("assistant", content, trained=True)


def _history(value: object) -> tuple[Message, ...]:
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
