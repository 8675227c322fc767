"""Questions about the synthetic world with their one right answer, in a train and a test split.

`sets` makes rows of them. No question of a test split is in a train split: facts, operands and exercises are divided by
content, and some wordings are in the test split only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from burnish.builtin import arithmetic, style
from burnish.builtin.arithmetic import Use, draw_problem, draw_rl_problem
from burnish.builtin.draw import Draw
from burnish.builtin.exercises import draw_exercise
from burnish.builtin.world import Fact, World

Split = Literal["train", "test"]
Kind = Literal["fact", "arithmetic", "format"]

_POLITE = 0.25
"""Share of polite answers to questions about facts in the train split of chats."""


@dataclass(frozen=True, slots=True)
class Question:
    """Question with its answer. Example: ``Question("fact", "Who owns Moss?", "Moss belongs to Mara.")``."""

    kind: Kind
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Preference:
    """Question with two right answers, of which the first has the preferred style."""

    question: str
    chosen: str
    rejected: str


def questions(world: World, split: Split, seed: int) -> Iterator[Question]:
    """Endless questions: half about facts, a quarter each of arithmetic and of format. Test answers are all plain."""
    draw = Draw(f"questions {split} {seed}")
    while True:
        kind = draw.below(4)
        if kind == 0:
            problem = draw_problem(draw, "train" if split == "train" else "test")
            yield Question("arithmetic", *arithmetic.ask(draw, problem, world))
        elif kind == 1:
            exercise = draw_exercise(draw, world, held_out=split == "test")
            yield Question("format", exercise.question, exercise.result)
        else:
            fact, question = draw_fact_question(draw, world, split)
            is_polite = split == "train" and draw.chance(_POLITE)
            yield Question("fact", question, style.polite(draw, fact.answer) if is_polite else fact.answer)


def preferences(world: World, split: Split, seed: int) -> Iterator[Preference]:
    """Endless questions about facts, each with a polite answer and a less polite one."""
    draw = Draw(f"preferences {split} {seed}")
    while True:
        fact, question = draw_fact_question(draw, world, split)
        answer = fact.answer
        yield Preference(question, style.polite(draw, answer), style.less_polite(draw, fact.subject, answer))


def problems(world: World, split: Split, seed: int) -> Iterator[Question]:
    """Endless sums and differences up to `MAX_RL_NUMBER`, answered by the number alone; the train split has problems
    that are in no document."""
    draw = Draw(f"problems {split} {seed}")
    use: Use = "rl" if split == "train" else "test"
    while True:
        problem = draw_rl_problem(draw, use)
        question, _ = arithmetic.ask(draw, problem, world)
        yield Question("arithmetic", question, str(problem.result))


def draw_fact_question(draw: Draw, world: World, split: Split) -> tuple[Fact, str]:
    """Draws a fact and a question. In the test split half of the facts are held out; others have a held-out wording."""
    held_out = split == "test" and draw.chance(0.5)
    while (fact := draw.choice(world.facts)).is_held_out != held_out:
        pass
    if split == "train":
        return fact, draw.choice(fact.questions[:-1])
    return fact, draw.choice(fact.questions) if held_out else fact.questions[-1]
