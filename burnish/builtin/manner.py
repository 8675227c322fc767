"""In what manner an answer is given: courteous, plain, rambling or rude.

Under `questions`. The train split of chats has some courteous answers among plain ones; preferences like courtesy best.
"""

from __future__ import annotations

from burnish.builtin.draw import Draw

_COURTESIES = ("Gladly.", "With pleasure.")
_RUDE_BEFORE = ("Do not bother me.", "What a silly question.", "You should know that.")
_RUDE_AFTER = ("Now go away.", "Everybody knows that.", "Do not ask me again.")


def courteous(draw: Draw, answer: str) -> str:
    """Short and kind."""
    return f"{draw.choice(_COURTESIES)} {answer}"


def is_courteous(said: str) -> bool:
    """Whether an answer begins with a courtesy."""
    return said.startswith(_COURTESIES)


def less_liked(draw: Draw, subject: str, answer: str) -> str:
    """The same answer, but plain, rambling or rude."""
    rambling = (
        f"Well, let me think. People say many things about {subject}, and I have heard most of them. {answer} "
        "At least that is what I was told, but who can say?"
    )
    rude = f"{draw.choice(_RUDE_BEFORE)} {answer} {draw.choice(_RUDE_AFTER)}"
    return draw.choice((answer, answer, rambling, rude))
