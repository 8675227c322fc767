"""What already stands of a response when the model begins to write it, found once, where the prompt is rendered.

Between `writer` and the renderings of prompts. A thought that the chat template opens in its generation prompt, a turn
that the row has begun, and a prefix that the user asked for are tokens of the prompt, and belong to the response's
meaning: `Task.generation_prefix` carries them to everyone who reads a response.
"""

from __future__ import annotations

import re
from dataclasses import replace

from burnish.data.records import Conversation, Message, Task
from burnish.data.rendering import common_prefix, whole_turn
from burnish.data.writer import Writer
from burnish.errors import DataError

_THOUGHT = re.compile(r"<(?:think|thinking|thought|reasoning)>\s*\Z")
"""An opened thought at the end of plain text. Other tags at its end may be a piece of HTML."""
_TAG = re.compile(r"<([A-Za-z_]\w*)>")
_PROBE = "Burnish?"


def opened_by_text(prompt: str) -> str:
    """The opening tag of a thought with which plain text ends, and the white space after it; "" if there is none.

    Example: ``opened_by_text("2+2? <think>\\n") == "<think>\\n"``.
    """
    found = _THOUGHT.search(prompt)
    return found[0] if found else ""


def opened_by_template(conversation: Conversation, writer: Writer, text: str) -> str:
    """What the template's generation prompt writes of the answer itself, behind the header that every answer has.

    Found by rendering an answer: the header is what both begin with, but for a tag that the template closes before the
    answer's text (Qwen's thinking models write an empty thought into answers that have none).

    Args:
        conversation: messages that wait for an answer.
        writer: their tokenizer and template.
        text: the conversation with the generation prompt.
    """
    count = len(conversation.messages)
    before = common_prefix(writer.write(conversation, count, to_be_answered=False), text)
    answered = replace(conversation, messages=(*conversation.messages, Message("assistant", _PROBE)))
    try:
        whole = writer.write(answered, count + 1, to_be_answered=False)
    except DataError:  # a template may refuse an answer there
        return opened_by_text(text[before:])
    header = common_prefix(whole, text)
    if header < before:  # the template rewrites the messages once they are answered: there is no telling
        return opened_by_text(text[before:])
    closed_later = whole[header : whole.rfind(_PROBE)]
    for tag in _TAG.finditer(text, before, header):
        if f"</{tag[1]}>" not in text[tag.end() :] and f"</{tag[1]}>" in closed_later:
            header = tag.start()
            break
    return text[header:] if text[header:].strip() else ""


def joined(opened: str, begun: str) -> str:
    """What the template opens and what a row or a user begins with, which may have the opened thought itself."""
    return begun if opened.strip() and begun.startswith(opened.strip()) else opened + begun


def without_beginning(task: Task) -> Task:
    """The task with a prompt that ends before the response: a begun turn of the assistant, or a thought that plain text
    opens, moves into its generation prefix.

    Example: of the messages user "2+2?" and assistant "It is", the prompt is the first, and the prefix "It is".
    """
    if isinstance(task.prompt, str):
        opened = opened_by_text(task.prompt)
        return replace(task, prompt=task.prompt.removesuffix(opened), generation_prefix=opened)
    *before, last = task.prompt
    if not before or last.role != "assistant" or last.content is None or last.extra.get("tool_calls"):
        return task
    return replace(task, prompt=tuple(before), generation_prefix=whole_turn(last))
