"""Questions of the little world with an instruction how to answer, which a program can verify.

Over `questions`, under `sets`. The names and arguments are those of the IFEval data (Zhou et al. 2023, arXiv
2311.07911); `burnish.tasks.instructions` checks them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from burnish.builtin.draw import Draw
from burnish.builtin.questions import Split, questions
from burnish.builtin.world import World

_END = "That is all."
_INSTRUCTIONS: tuple[tuple[str, str, Mapping[str, object]], ...] = (
    ("Answer in capital letters.", "change_case:english_capital", {}),
    ("Answer in small letters.", "change_case:english_lowercase", {}),
    ("Put the answer in quotation marks.", "startend:quotation", {}),
    (f"End with: {_END}", "startend:end_checker", {"end_phrase": _END}),
    ("Answer in at least 8 words.", "length_constraints:number_words", {"relation": "at least", "num_words": 8}),
)


@dataclass(frozen=True, slots=True)
class Instructed:
    """Example: ``Instructed("Who owns Moss? Answer in small letters.", "change_case:english_lowercase", {})``."""

    question: str
    kind: str
    arguments: Mapping[str, object]


def instructed(world: World, split: Split, seed: int) -> Iterator[Instructed]:
    """Endless: questions about facts as chats of the same split ask them, each with one instruction."""
    draw = Draw(f"instructed {split} {seed}")
    for question in questions(world, split, seed):
        if question.kind == "fact":
            said, kind, arguments = draw.choice(_INSTRUCTIONS)
            yield Instructed(f"{question.question} {said}", kind, arguments)
