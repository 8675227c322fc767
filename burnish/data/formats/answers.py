"""Formats of a single response: conversations, instructions, questions, completions, documents."""

from __future__ import annotations

from burnish.data.formats.fields import kind, text
from burnish.data.formats.messages import messages, system, tools
from burnish.data.formats.prompt_columns import instruction_messages, untrained, with_system_message
from burnish.data.formats.tasks import reference_of
from burnish.data.records import Completion, Conversation, Document, Message
from burnish.data.row import Row
from burnish.errors import DataError


def chat(row: Row) -> Conversation:
    """Columns messages (tools, system) in the format of OpenAI or ShareGPT; all assistant messages are learned.

    Raises:
        DataError: nothing is learned, or the messages are a prompt whose reference is a column.
    """
    chat_messages = messages(row.get("messages"), "messages")
    if chat_messages[-1].role != "assistant" and reference_of(row) is not None:
        raise DataError(
            given=f"the last message is the {chat_messages[-1].role}'s, and a column has the reference answer",
            rule="such rows are prompts with a reference, for rl and generate; sft learns the assistant's messages",
            remedy="train on them in a stage rl, or add the answer as the last message",
        )
    return with_something_to_learn(Conversation(system(row, chat_messages), tools(row)))


def alpaca(row: Row) -> Conversation:
    """Columns instruction and output (input, history, system, tools); the input follows after a blank line."""
    chat_messages = (*instruction_messages(row), _answer(text(row, "output")))
    return Conversation(system(row, chat_messages), tools(row))


def question_answer(row: Row) -> Conversation:
    """Columns question and answer (system, tools): a user's message and the answer to it."""
    chat_messages = (Message("user", text(row, "question")), _answer(text(row, "answer")))
    return Conversation(system(row, chat_messages), tools(row))


def prompt_completion(row: Row) -> Conversation | Completion:
    """Columns prompt and completion (tools, system): two texts, or messages."""
    prompt, completion = row.get("prompt"), row.get("completion")
    if isinstance(prompt, str) and isinstance(completion, str):
        with_system_message(row, prompt)
        return Completion(prompt, completion)
    if isinstance(prompt, list | dict) and isinstance(completion, list | dict):
        chat_messages = untrained(messages(prompt, "prompt")) + messages(completion, "completion")
        return with_something_to_learn(Conversation(system(row, chat_messages), tools(row)))
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
