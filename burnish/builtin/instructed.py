"""Questions about the synthetic world with a verifiable instruction how to answer.

The names and arguments are those of the IFEval data (Zhou et al. 2023, arXiv
2311.07911); `burnish.rewards.instructions` checks them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from burnish.builtin.draw import Draw
from burnish.builtin.questions import Split, draw_fact_question
from burnish.builtin.world import World

_INSTRUCTIONS: tuple[tuple[str, str, Mapping[str, object]], ...] = (
    ("Use the word gladly.", "keywords:existence", {"keywords": ["gladly"]}),
    ("Use the word pleasure.", "keywords:existence", {"keywords": ["pleasure"]}),
    ("Be plain.", "keywords:forbidden_words", {"forbidden_words": ["gladly", "pleasure"]}),
    ("Answer in at least 6 words.", "length_constraints:number_words", {"relation": "at least", "num_words": 6}),
    ("Put the answer in quotation marks.", "startend:quotation", {}),
)
"""The first four ask for the polite or plain style of chats, the last one for a style that is in no data set."""


@dataclass(frozen=True, slots=True)
class Instructed:
    """Question with an instruction.

    Example: ``Instructed("Who owns Moss? Answer in at least 6 words.", kind, arguments, "Mara")``.
    """

    question: str
    kind: str
    arguments: Mapping[str, object]
    reference: str
    """Text that a right answer contains, since any answer in the right form follows the instruction."""


def instructed(world: World, split: Split, seed: int) -> Iterator[Instructed]:
    """Endless questions about facts in the wordings of chats of the same split, each with one instruction."""
    draw = Draw(f"instructed {split} {seed}")
    while True:
        fact, question = draw_fact_question(draw, world, split)
        instruction, kind, arguments = draw.choice(_INSTRUCTIONS)
        yield Instructed(f"{question} {instruction}", kind, arguments, fact.value)
