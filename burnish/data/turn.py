"""Text of one turn of a conversation, and of the prompt of serving before it.

Between `writer` and `rendering`, which adds the learned ranges; `template_parts` compares such texts.
"""

from __future__ import annotations

from burnish.data.records import Message
from burnish.data.turn_text import common_prefix
from burnish.data.writer import Script

REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
"""Keys of a message with its reasoning; the first with a value counts."""
OPEN_REASONING, CLOSE_REASONING = "<think>", "</think>"


def render_turn(script: Script, turn: int) -> tuple[str, str]:
    """Returns the prompt of serving before a turn, and the text up to the end of the turn.

    Raises:
        DataError: the template refuses the messages.
    """
    before = script.write(turn, add_generation_prompt=True)
    whole = script.write(turn + 1, add_generation_prompt=False)
    if not whole.startswith(before):
        whole = _complete_opened_reasoning(script.message(turn), before, whole)
    return before, whole


def _complete_opened_reasoning(message: Message, before: str, whole: str) -> str:
    """Text up to the end of a turn whose generation prompt opens a reasoning block that the rendered message lacks.

    Some templates (DeepSeek R1's) open a reasoning block for the model, and strip reasoning from all messages, also
    from the last. Then the turn is the text that the model would generate: the rest of the reasoning, its end, the
    answer, and the template's text after an answer. For a message without reasoning that text is unknown, and `whole`
    is returned.
    """
    same = common_prefix(before, whole)
    opening, rendered = before[same:], whole[same:]
    raw = whole_turn(message)
    answer = raw.rpartition(CLOSE_REASONING)[2]
    rendered_answer = next((text for text in (answer, answer.strip()) if rendered.startswith(text)), None)
    if opening.strip() != OPEN_REASONING or not raw.startswith(OPEN_REASONING) or rendered_answer is None:
        return whole
    rest = raw[len(opening) :] if raw.startswith(opening) else raw[len(OPEN_REASONING) :]
    return before + rest + rendered[len(rendered_answer) :]


def whole_turn(message: Message) -> str:
    """Returns the message as a model generates it, with its reasoning first."""
    content = message.text or ""
    reasoning = next((str(message.extra[key]) for key in REASONING_KEYS if message.extra.get(key)), None)
    return (
        content
        if reasoning is None
        else f"{OPEN_REASONING}\n{reasoning.strip()}\n{CLOSE_REASONING}\n\n{content.strip()}"
    )
