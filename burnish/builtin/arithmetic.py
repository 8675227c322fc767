"""Arithmetic problems of the built-in data sets, and their division into splits.

The division is by content, not by a random draw: seven tenths of the problems are in documents and in the train split
of every set, two tenths only in the prompts for reinforcement learning, one tenth in test splits. So the gain by
reinforcement learning can be separated from memorized answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from burnish.builtin.draw import Draw, bucket
from burnish.builtin.world import FAMES, Person, World

Use = Literal["train", "rl", "test"]
"""train: in documents and chats; rl: only in the prompts for reinforcement learning; test: only in test splits."""

MAX_NUMBER = 99
"""Largest number of a sum or a difference."""
MAX_RL_NUMBER = 30
"""Largest number of a prompt for reinforcement learning, where one of eight responses should be right."""
_SMALL = 20
_WORDS = {"+": "plus", "-": "minus", "*": "times"}


@dataclass(frozen=True, slots=True)
class Problem:
    """Arithmetic problem: two numbers and a sign. Example: ``Problem(12, "+", 7).result == 19``."""

    first: int
    sign: Literal["+", "-", "*"]
    second: int

    @property
    def result(self) -> int:
        """Result, never below 0."""
        if self.sign == "+":
            return self.first + self.second
        return self.first - self.second if self.sign == "-" else self.first * self.second

    @property
    def use(self) -> Use:
        """Use of the problem; a + b and b + a have the same one."""
        pair = (self.first, self.second) if self.sign == "-" else sorted((self.first, self.second))
        number = bucket(f"{pair[0]} {self.sign} {pair[1]}")
        return "train" if number < 7 else "rl" if number < 9 else "test"

    def __str__(self) -> str:
        return f"{self.first} {self.sign} {self.second}"

    def in_words(self) -> str:
        """The problem in words, such as "12 plus 7"."""
        return f"{self.first} {_WORDS[self.sign]} {self.second}"


def draw_problem(draw: Draw, use: Use) -> Problem:
    """Draws a problem of this use; half of the sums and differences are small."""
    allowed = _allowed(use)
    while (problem := _any_problem(draw)).use not in allowed:
        pass
    return problem


def draw_rl_problem(draw: Draw, use: Use) -> Problem:
    """Draws a sum or a difference of this use, up to `MAX_RL_NUMBER`."""
    allowed = _allowed(use)
    while (problem := _sum_or_difference(draw, MAX_RL_NUMBER)).use not in allowed:
        pass
    return problem


def _allowed(use: Use) -> tuple[Use, ...]:
    return ("train", "rl") if use == "rl" else (use,)


def _any_problem(draw: Draw) -> Problem:
    if draw.chance(0.1):
        return Problem(draw.between(2, 9), "*", draw.between(2, 9))
    return _sum_or_difference(draw, _SMALL if draw.chance(0.5) else MAX_NUMBER)


def _sum_or_difference(draw: Draw, max_number: int) -> Problem:
    larger = draw.between(1, max_number)
    smaller = draw.between(0, larger)
    if draw.chance(0.5):
        return Problem(larger, "-", smaller)
    return Problem(smaller, "+", larger - smaller)


def ask(draw: Draw, problem: Problem, world: World) -> tuple[str, str]:
    """Draws a question for the result, and its answer, a sentence whose last number is the result."""
    if problem.sign != "*" and draw.chance(0.2):
        person = draw.choice(world.people)
        thing = draw.choice(FAMES)
        question = f"{tale(problem, person, thing)} How many {thing} does {person.name} have now?"
        return question, f"Now {person.name} has {problem.result} {thing}."
    if draw.chance(0.2):
        return f"What is {problem.in_words()}?", f"{problem.in_words()} is {problem.result}."
    questions = (f"What is {problem}?", f"{problem} = ?", f"How much is {problem}?", f"Compute {problem}.")
    return draw.choice(questions), f"{problem} = {problem.result}"


def last_number(answer: str) -> int | None:
    """Last number in an answer, by which it is graded; None: there is none."""
    numbers = re.findall(r"\d+", answer, re.ASCII)
    return int(numbers[-1]) if numbers and len(numbers[-1]) < 10 else None


def tale(problem: Problem, person: Person, thing: str) -> str:
    """A sum or a difference as a word problem."""
    assert problem.sign != "*", "word problems are sums and differences"
    begin = f"{person.name} has {problem.first} {thing}"
    if problem.sign == "+":
        return f"{begin}. {person.friend} brings {problem.second} more."
    return f"{begin}. {person.friend} takes {problem.second} of them."
