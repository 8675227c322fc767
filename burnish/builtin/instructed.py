"""Questions of the little world with an instruction how to answer, which a program can verify.

Over `questions`, under `sets`. The names and arguments are those of the IFEval data (Zhou et al. 2023, arXiv
2311.07911); `burnish.tasks.instructions` checks them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from burnish.builtin.draw import Draw
from burnish.builtin.questions import Split, asked_fact
from burnish.builtin.world import World

_INSTRUCTIONS: tuple[tuple[str, str, Mapping[str, object]], ...] = (
    ("Use the word gladly.", "keywords:existence", {"keywords": ["gladly"]}),
    ("Use the word pleasure.", "keywords:existence", {"keywords": ["pleasure"]}),
    ("Be plain.", "keywords:forbidden_words", {"forbidden_words": ["gladly", "pleasure"]}),
    ("Answer in at least 6 words.", "length_constraints:number_words", {"relation": "at least", "num_words": 6}),
    ("Put the answer in quotation marks.", "startend:quotation", {}),
)
"""The first four say in words what chats show without a word: courtesy, and its absence. Nothing shows the last."""


@dataclass(frozen=True, slots=True)
class Instructed:
    """Example: ``Instructed("Who owns Moss? Answer in at least 6 words.", kind, arguments, "Mara")``."""

    question: str
    kind: str
    arguments: Mapping[str, object]
    reference: str
    """What a right answer names: an instruction alone is followed by any answer in the right form."""


def instructed(world: World, split: Split, seed: int) -> Iterator[Instructed]:
    """Endless: questions about facts as chats of the same split ask them, each with one instruction."""
    draw = Draw(f"instructed {split} {seed}")
    while True:
        fact, asked = asked_fact(draw, world, split)
        said, kind, arguments = draw.choice(_INSTRUCTIONS)
        yield Instructed(f"{asked} {said}", kind, arguments, fact.value)
