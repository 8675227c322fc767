"""Conversations with thoughts, and a template that strips the earlier ones: every turn is a sample of its own."""

from __future__ import annotations

FORGETFUL = (
    "{% set last = namespace(at=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set last.at = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}[{{ m.role }}]"
    "{% if m.role == 'assistant' and loop.index0 < last.at %}{{ m.content.split('</think>')[-1].lstrip('\n') }}"
    "{% else %}{{ m.content }}{% endif %}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
"""Thoughts of answers before the last question are not written, as in the templates of Qwen 3 and DeepSeek R1."""

Messages = list[dict[str, str]]


def turn(number: int, thought: int = 90, answer: int = 20, question: int = 70) -> Messages:
    """A question and an answer with a thought, of about so many characters."""
    letter = "abcdefghij"[number % 10]
    thoughts = f"<think>\n{number}{letter * thought}\n</think>\n\n" if thought else ""
    return [
        {"role": "user", "content": f"{number} {'q' * question}"},
        {"role": "assistant", "content": f"{thoughts}{letter * answer}."},
    ]


def talk(turns: int, first: int = 0, **sizes: int) -> Messages:
    """A conversation whose turns have the numbers from `first` on."""
    return [message for number in range(first, first + turns) for message in turn(number, **sizes)]


def pair(turns: int, first: int = 0, **sizes: int) -> dict[str, object]:
    """Answers of several turns to one question; the rejected ones are longer."""
    chosen, rejected = talk(turns, first, **sizes), talk(turns, first, **{**sizes, "answer": 30})
    return {"prompt": chosen[:1], "chosen": chosen[1:], "rejected": rejected[1:]}
