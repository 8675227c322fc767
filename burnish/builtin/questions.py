"""Questions of the little world with their one right answer, divided into train and test.

Over `world`, `arithmetic` and `exercises`, under `sets` (which writes them as rows). No question of a test split is in
a train split: facts, operands and exercises are divided by what they are, and some wordings are asked in tests alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from burnish.builtin import arithmetic, manner
from burnish.builtin.arithmetic import Use, draw_practice, draw_problem
from burnish.builtin.draw import Draw
from burnish.builtin.exercises import draw_exercise
from burnish.builtin.world import Fact, World

Split = Literal["train", "test"]
Kind = Literal["fact", "arithmetic", "format"]

_COURTEOUS = 0.25
"""Share of the facts in chats' train split that are answered courteously."""


@dataclass(frozen=True, slots=True)
class Question:
    """Example: ``Question("fact", "Who owns Moss?", "Moss belongs to Mara.")``."""

    kind: Kind
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Preference:
    """A question and two answers, both right; the manner of the first is liked better."""

    question: str
    chosen: str
    rejected: str


def questions(world: World, split: Split, seed: int) -> Iterator[Question]:
    """Endless: half of them about facts, a quarter each of arithmetic and of form. Test answers are all plain."""
    draw = Draw(f"questions {split} {seed}")
    while True:
        kind = draw.below(4)
        if kind == 0:
            problem = draw_problem(draw, "shown" if split == "train" else "test")
            yield Question("arithmetic", *arithmetic.ask(draw, problem, world))
        elif kind == 1:
            exercise = draw_exercise(draw, world, held_out=split == "test")
            yield Question("format", exercise.question, exercise.result)
        else:
            fact, asked = asked_fact(draw, world, split)
            is_courteous = split == "train" and draw.chance(_COURTEOUS)
            yield Question("fact", asked, manner.courteous(draw, fact.answer) if is_courteous else fact.answer)


def preferences(world: World, split: Split, seed: int) -> Iterator[Preference]:
    """Endless: questions about facts, answered courteously and otherwise."""
    draw = Draw(f"preferences {split} {seed}")
    while True:
        fact, asked = asked_fact(draw, world, split)
        answer = fact.answer
        yield Preference(asked, manner.courteous(draw, answer), manner.less_liked(draw, fact.subject, answer))


def problems(world: World, split: Split, seed: int) -> Iterator[Question]:
    """Endless: sums and differences up to `PRACTISED`, answered by the bare number; the train split has problems that
    stand in no document."""
    draw = Draw(f"problems {split} {seed}")
    use: Use = "practice" if split == "train" else "test"
    while True:
        problem = draw_practice(draw, use)
        asked, _ = arithmetic.ask(draw, problem, world)
        yield Question("arithmetic", asked, str(problem.result))


def asked_fact(draw: Draw, world: World, split: Split) -> tuple[Fact, str]:
    """A fact and a question for it. In tests, half of the facts are held out, and of the others the wording is."""
    held_out = split == "test" and draw.chance(0.5)
    while (fact := draw.choice(world.facts)).is_held_out != held_out:
        pass
    if split == "train":
        return fact, draw.choice(fact.questions[:-1])
    return fact, draw.choice(fact.questions) if held_out else fact.questions[-1]
