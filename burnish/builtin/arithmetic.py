"""Sums, differences and products of the little world, and who may see which of them.

Under `documents` and `questions`. Problems are divided for ever by what they are, not by a draw: seven tenths stand in
documents and in the train split of every set, two tenths come only in the practice for reinforcement learning, one
tenth is tested. So what a model gains by practice can be told from what it was once shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from burnish.builtin.draw import Draw, bucket
from burnish.builtin.world import FAMES, Person, World

Use = Literal["shown", "practice", "test"]
"""shown: in documents and chats; practice: those and more, for reinforcement learning; test: none of them."""

LARGEST = 99
"""No number of a sum or a difference is larger."""
PRACTISED = 30
"""Nor is one of a problem that is practised by trying, where eight tries should have a right one among them."""
_SMALL = 20
_WORDS = {"+": "plus", "-": "minus", "*": "times"}


@dataclass(frozen=True, slots=True)
class Problem:
    """Two numbers and a sign. Example: ``Problem(12, "+", 7).result == 19``."""

    first: int
    sign: Literal["+", "-", "*"]
    second: int

    @property
    def result(self) -> int:
        """Never below 0."""
        if self.sign == "+":
            return self.first + self.second
        return self.first - self.second if self.sign == "-" else self.first * self.second

    @property
    def use(self) -> Use:
        """The narrowest use; what commutes is divided together with its twin."""
        pair = (self.first, self.second) if self.sign == "-" else sorted((self.first, self.second))
        place = bucket(f"{pair[0]} {self.sign} {pair[1]}")
        return "shown" if place < 7 else "practice" if place < 9 else "test"

    def __str__(self) -> str:
        return f"{self.first} {self.sign} {self.second}"

    def in_words(self) -> str:
        """Such as "12 plus 7"."""
        return f"{self.first} {_WORDS[self.sign]} {self.second}"


def draw_problem(draw: Draw, use: Use) -> Problem:
    """A problem of this use; half of the sums and differences are small."""
    allowed = _allowed(use)
    while (problem := _any_problem(draw)).use not in allowed:
        pass
    return problem


def draw_practice(draw: Draw, use: Use) -> Problem:
    """A sum or a difference of this use, up to `PRACTISED`."""
    allowed = _allowed(use)
    while (problem := _sum_or_difference(draw, PRACTISED)).use not in allowed:
        pass
    return problem


def _allowed(use: Use) -> tuple[Use, ...]:
    return ("shown", "practice") if use == "practice" else (use,)


def _any_problem(draw: Draw) -> Problem:
    if draw.chance(0.1):
        return Problem(draw.between(2, 9), "*", draw.between(2, 9))
    return _sum_or_difference(draw, _SMALL if draw.chance(0.5) else LARGEST)


def _sum_or_difference(draw: Draw, largest: int) -> Problem:
    larger = draw.between(1, largest)
    smaller = draw.between(0, larger)
    if draw.chance(0.5):
        return Problem(larger, "-", smaller)
    return Problem(smaller, "+", larger - smaller)


def ask(draw: Draw, problem: Problem, world: World) -> tuple[str, str]:
    """One of the ways to ask for the result, and the sentence that answers; its last number is the result."""
    if problem.sign != "*" and draw.chance(0.2):
        person = draw.choice(world.people)
        thing = draw.choice(FAMES)
        asked = f"{tale(problem, person, thing)} How many {thing} does {person.name} have now?"
        return asked, f"Now {person.name} has {problem.result} {thing}."
    if draw.chance(0.2):
        return f"What is {problem.in_words()}?", f"{problem.in_words()} is {problem.result}."
    ways = (f"What is {problem}?", f"{problem} = ?", f"How much is {problem}?", f"Compute {problem}.")
    return draw.choice(ways), f"{problem} = {problem.result}"


def last_number(said: str) -> int | None:
    """The last number in an answer, by which it is judged; None: there is none."""
    found = re.findall(r"\d+", said, re.ASCII)
    return int(found[-1]) if found and len(found[-1]) < 10 else None


def tale(problem: Problem, person: Person, thing: str) -> str:
    """A sum or a difference as something that happens to somebody."""
    assert problem.sign != "*", "a product is not something that happens"
    begin = f"{person.name} has {problem.first} {thing}"
    if problem.sign == "+":
        return f"{begin}. {person.friend} brings {problem.second} more."
    return f"{begin}. {person.friend} takes {problem.second} of them."
