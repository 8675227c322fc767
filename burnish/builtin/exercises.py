"""Format exercises: lists, JSON, capital letters, counting words, the last word.

`documents` states them, `questions` asks for them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from burnish.builtin.draw import Draw, bucket
from burnish.builtin.world import ANIMALS, COLOURS, FAMES, GOODS, PLACES, World

WORDS = (*COLOURS, *ANIMALS, *GOODS, *FAMES, *PLACES)


@dataclass(frozen=True, slots=True)
class Exercise:
    """Question, statement in a document, and the one right result."""

    question: str
    statement: str
    result: str

    @property
    def is_held_out(self) -> bool:
        """Whether it is in the test split only, and in no document."""
        return bucket(self.question) < 2


def draw_exercise(draw: Draw, world: World, *, held_out: bool) -> Exercise:
    """Draws an exercise that is held out, or one that is not."""
    while (exercise := draw.choice(_KINDS)(draw, world)).is_held_out != held_out:
        pass
    return exercise


def _list(draw: Draw, world: World) -> Exercise:
    words = draw.some(WORDS, draw.between(2, 5))
    return Exercise(
        f"Make a list of {', '.join(words)}.",
        f"A list of {', '.join(words)}:",
        "\n".join(f"- {word}" for word in words),
    )


def _json(draw: Draw, world: World) -> Exercise:
    person = draw.choice(world.people)
    name = draw.choice((person.name, person.pet))
    key, value = draw.choice((("colour", draw.choice(COLOURS)), ("age", draw.between(1, 99))))
    return Exercise(
        f"Write as JSON: name {name}, {key} {value}.",
        f"The name {name} and the {key} {value} as JSON:",
        json.dumps({"name": name, key: value}),
    )


def _capitals(draw: Draw, world: World) -> Exercise:
    words = " ".join(draw.some(WORDS, draw.between(1, 2)))
    return Exercise(f"Write in capital letters: {words}", f"In capital letters, {words} is", words.upper())


def _count(draw: Draw, world: World) -> Exercise:
    words = draw.some(WORDS, draw.between(2, 7))
    return Exercise(
        f"How many words are these: {' '.join(words)}?",
        f"The number of words in {' '.join(words)} is",
        str(len(words)),
    )


def _last(draw: Draw, world: World) -> Exercise:
    words = draw.some(WORDS, draw.between(2, 5))
    return Exercise(
        f"What is the last of these words: {' '.join(words)}?", f"The last word of {' '.join(words)} is", words[-1]
    )


_KINDS: tuple[Callable[[Draw, World], Exercise], ...] = (_list, _json, _capitals, _count, _last)
