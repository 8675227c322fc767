"""Style of an answer: polite, plain, rambling or rude.

The train split of chats has some polite answers among plain ones; preferences prefer polite answers.
"""

from __future__ import annotations

from burnish.builtin.draw import Draw

_POLITE_OPENINGS = ("Gladly.", "With pleasure.")
_RUDE_BEFORE = ("Do not bother me.", "What a silly question.", "You should know that.")
_RUDE_AFTER = ("Now go away.", "Everybody knows that.", "Do not ask me again.")


def polite(draw: Draw, answer: str) -> str:
    """The answer with a drawn polite opening."""
    return f"{draw.choice(_POLITE_OPENINGS)} {answer}"


def is_polite(answer: str) -> bool:
    """Whether an answer is polite: it begins with a polite opening."""
    return answer.startswith(_POLITE_OPENINGS)


def less_polite(draw: Draw, subject: str, answer: str) -> str:
    """The same answer in a plain, rambling or rude style."""
    rambling = (
        f"Well, let me think. People say many things about {subject}, and I have heard most of them. {answer} "
        "At least that is what I was told, but who can say?"
    )
    rude = f"{draw.choice(_RUDE_BEFORE)} {answer} {draw.choice(_RUDE_AFTER)}"
    return draw.choice((answer, answer, rambling, rude))
