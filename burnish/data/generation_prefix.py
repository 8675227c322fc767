"""Generation prefix: the beginning of a response that is part of the prompt, determined when the prompt is rendered.

Between `writer` and the renderings of prompts. A reasoning block that the chat template opens in its generation prompt,
a turn that the row has begun, and a prefix of the user are tokens of the prompt but belong to the response:
`Task.generation_prefix` passes them to rewards and evaluations.
"""

from __future__ import annotations

import re
from dataclasses import replace

from burnish.data.records import Conversation, Message, Task
from burnish.data.turn import whole_turn
from burnish.data.turn_text import common_prefix
from burnish.data.writer import Writer
from burnish.errors import DataError

_THOUGHT = re.compile(r"<(?:think|thinking|thought|reasoning)>\s*\Z")
"""Opening tag of reasoning at the end of plain text. Other tags at the end may be HTML."""
_TAG = re.compile(r"<([A-Za-z_]\w*)>")
_PROBE = "Burnish?"


def opened_by_text(prompt: str) -> str:
    """Returns the opening tag of reasoning at the end of plain text, with the white space after it; "" if none.

    Example: ``opened_by_text("2+2? <think>\\n") == "<think>\\n"``.
    """
    match = _THOUGHT.search(prompt)
    return match[0] if match else ""


def opened_by_template(conversation: Conversation, writer: Writer, text: str) -> str:
    """Returns the part of the generation prompt that belongs to the answer, after the header that every answer has.

    Determined by rendering an answer: the header is the common prefix of both, up to a tag that the template closes
    before the answer's text (Qwen's thinking models write an empty reasoning block into answers without reasoning).

    Args:
        conversation: messages before the answer.
        writer: tokenizer and template.
        text: the conversation with the generation prompt.
    """
    count = len(conversation.messages)
    before = common_prefix(writer.write(conversation, count, add_generation_prompt=False), text)
    answered = replace(conversation, messages=(*conversation.messages, Message("assistant", _PROBE)))
    try:
        whole = writer.write(answered, count + 1, add_generation_prompt=False)
    except DataError:  # a template may refuse an answer there
        return opened_by_text(text[before:])
    header = common_prefix(whole, text)
    if header < before:  # the template rewrites messages once they are answered: the header is unknown
        return opened_by_text(text[before:])
    closed_later = whole[header : whole.rfind(_PROBE)]
    for tag in _TAG.finditer(text, before, header):
        if f"</{tag[1]}>" not in text[tag.end() :] and f"</{tag[1]}>" in closed_later:
            header = tag.start()
            break
    return text[header:] if text[header:].strip() else ""


def joined(opening: str, begun: str) -> str:
    """Joins the template's opening and the beginning of a row or user, which may repeat the opening tag."""
    return begun if opening.strip() and begun.startswith(opening.strip()) else opening + begun


def without_beginning(task: Task) -> Task:
    """Moves the beginning of the response from the prompt to the generation prefix: a begun turn of the assistant, or
    the opening tag of reasoning at the end of plain text.

    Example: of the messages user "2+2?" and assistant "It is", the prompt is the first, and the prefix "It is".
    """
    if isinstance(task.prompt, str):
        opening = opened_by_text(task.prompt)
        return replace(task, prompt=task.prompt.removesuffix(opening), generation_prefix=opening)
    *before, last = task.prompt
    if not before or last.role != "assistant" or last.content is None or last.extra.get("tool_calls"):
        return task
    return replace(task, prompt=tuple(before), generation_prefix=whole_turn(last))
