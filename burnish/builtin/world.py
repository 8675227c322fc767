"""A little world of questions and answers, generated from a seed: the data of the demo and of many tests.

Three kinds of rows, all of them learnable by a tiny model: sums, facts of one fixed village, and reversed words.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

PEOPLE = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hana", "Ivo", "Jun", "Kai", "Lea")
COLOURS = ("red", "blue", "green", "white", "black", "yellow")
THINGS = ("door", "boat", "hat", "cup", "kite", "lamp")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Row(TypedDict):
    """One row of the question/answer format."""

    question: str
    answer: str


def generate(seed: int, count: int) -> list[Row]:
    """`count` rows; the same seed always gives the same rows. The village's facts are the same for all seeds."""
    draw = random.Random(f"little world {seed}")
    makers = (_sum, _fact, _reversal)
    return [draw.choice(makers)(draw) for _ in range(count)]


def write_rows(path: Path, rows: list[Row]) -> None:
    """Writes rows as JSON lines."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def _sum(draw: random.Random) -> Row:
    first, second = draw.randint(0, 20), draw.randint(0, 20)
    return {"question": f"What is {first} plus {second}?", "answer": f"{first} plus {second} is {first + second}."}


def _fact(draw: random.Random) -> Row:
    person, thing = draw.choice(PEOPLE), draw.choice(THINGS)
    colour = dict(_village())[person, thing]
    return {"question": f"What colour is {person}'s {thing}?", "answer": f"{person}'s {thing} is {colour}."}


def _village() -> Iterator[tuple[tuple[str, str], str]]:
    """Who owns what in which colour; fixed for ever."""
    draw = random.Random("the village")
    for person in PEOPLE:
        for thing in THINGS:
            yield (person, thing), draw.choice(COLOURS)


def _reversal(draw: random.Random) -> Row:
    word = "".join(draw.choice(LETTERS) for _ in range(draw.randint(3, 5)))
    return {"question": f"Spell {word} backwards.", "answer": f"{word[::-1]}."}
