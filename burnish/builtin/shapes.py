"""Scenes of colored shapes and numbers, their pictures, and questions about them with their one right answer.

A picture has nine places, and each place has one shape, a number or nothing. No scene is in both splits: scenes are
divided by their description, which tells all but sizes, small shifts and the background.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from burnish.builtin.draw import Draw, bucket
from burnish.builtin.drawing import (
    BACKGROUNDS,
    COLORS,
    DIGIT_GAP,
    DIGIT_HEIGHT,
    DIGIT_WIDTH,
    KINDS,
    Canvas,
    Kind,
    data_url,
    png,
)
from burnish.builtin.questions import Split

QuestionKind = Literal["count", "color", "position", "reading"]
QUESTION_KINDS: tuple[QuestionKind, ...] = ("count", "color", "position", "reading")
PLACES = (
    *("at the top left", "at the top", "at the top right"),
    *("on the left", "in the middle", "on the right"),
    *("at the bottom left", "at the bottom", "at the bottom right"),
)
"""Names of the places, row by row."""
MAX_SHAPES = 6
_PLACE = 21
"""Width and height of a place."""
_WEIGHTED: tuple[QuestionKind, ...] = ("count", "count", "color", "position", "reading")


@dataclass(frozen=True, slots=True)
class Shape:
    """Shape at a place."""

    kind: Kind
    color: str
    place: int
    radius: int
    shift: tuple[int, int]
    """Of its center from the center of its place."""

    @property
    def name(self) -> str:
        """Color and kind, such as "red circle"."""
        return f"{self.color} {self.kind}"

    @property
    def center(self) -> tuple[int, int]:
        """Column and row of the pixel in its center."""
        return self.place % 3 * _PLACE + 10 + self.shift[0], self.place // 3 * _PLACE + 10 + self.shift[1]


@dataclass(frozen=True, slots=True)
class Number:
    """Number from 0 to 99 at a place."""

    value: int
    place: int
    shift: tuple[int, int]
    """Of its upper left corner from that of its place."""

    @property
    def corner(self) -> tuple[int, int]:
        """Column and row of its upper left pixel."""
        return self.place % 3 * _PLACE + self.shift[0], self.place // 3 * _PLACE + self.shift[1]


@dataclass(frozen=True, slots=True)
class Asked:
    """Question about a scene. Example: ``Asked("count", "How many stars are there?", "1", "There is 1 star.")``."""

    kind: QuestionKind
    question: str
    answer: str
    sentence: str
    """The answer as a sentence."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Shapes in the order of their places, and a number or none."""

    background: int
    shapes: tuple[Shape, ...]
    number: Number | None

    @property
    def items(self) -> tuple[tuple[str, int], ...]:
        """Names of shapes and number with their places, in the order of these: ``(("red circle", 0),)``."""
        named = [(shape.name, shape.place) for shape in self.shapes]
        if self.number:
            named.append((f"number {self.number.value}", self.number.place))
        return tuple(sorted(named, key=lambda item: item[1]))

    @property
    def description(self) -> str:
        """Text that tells scenes apart; it decides the split."""
        return ", ".join(f"{name} {PLACES[place]}" for name, place in self.items)

    @property
    def split(self) -> Split:
        """The split that may have the scene; a tenth of the scenes are of the test split."""
        return "test" if bucket(self.description) == 0 else "train"

    def draw(self) -> bytearray:
        """Pixels of the picture, as indexes of the palette."""
        canvas = Canvas(self.background)
        for shape in self.shapes:
            canvas.shape(shape.kind, shape.color, shape.center, shape.radius)
        if self.number:
            canvas.number(self.number.value, self.number.corner)
        return canvas.pixels

    def url(self) -> str:
        """Picture as a data URL of a PNG file."""
        return data_url(png(self.draw()))

    def counts(self) -> tuple[Asked, ...]:
        """Questions about numbers of shapes: of all, of each color, of each kind."""
        number = len(self.shapes)
        colors = Counter(shape.color for shape in self.shapes)
        kinds = Counter[str](shape.kind for shape in self.shapes)
        asked = [_count("shape", number)]
        asked += [_count(f"{color} shape", colors[color]) for color in COLORS]
        return (*asked, *(_count(kind, kinds[kind]) for kind in KINDS))

    def colors(self) -> tuple[Asked, ...]:
        """Questions about the color of a shape that is the only one of its kind."""
        kinds = Counter(shape.kind for shape in self.shapes)
        return tuple(
            Asked("color", f"What color is the {each.kind}?", each.color, f"The {each.kind} is {each.color}.")
            for each in self.shapes
            if kinds[each.kind] == 1
        )

    def positions(self) -> tuple[Asked, ...]:
        """Questions about two shapes in different columns or rows, each the only one of its color and kind."""
        names = Counter(shape.name for shape in self.shapes)
        single = [shape for shape in self.shapes if names[shape.name] == 1]
        pairs = [(first, second) for first in single for second in single if first is not second]
        asked = [_compare(first, second, sideways=True) for first, second in pairs]
        asked += [_compare(first, second, sideways=False) for first, second in pairs]
        return tuple(each for each in asked if each)

    def readings(self) -> tuple[Asked, ...]:
        """The question about the number, if there is one."""
        if not self.number:
            return ()
        value = self.number.value
        return (Asked("reading", "What number is written?", str(value), f"The number is {value}."),)


def scenes(draw: Draw, split: Split) -> Iterator[Scene]:
    """Endless scenes of a split."""
    while True:
        scene = _scene(draw)
        if scene.split == split:
            yield scene


def ask(draw: Draw, scene: Scene, kind: QuestionKind) -> Asked | None:
    """Draws a question of a kind; None: the scene has none. All numbers that a scene has are asked for equally often,
    and 0 seldom."""
    if kind == "count":
        counts = scene.counts()
        answers = sorted({each.answer for each in counts} - {"0"})
        answer = "0" if not answers or draw.chance(0.05) else draw.choice(answers)
        return draw.choice([each for each in counts if each.answer == answer])
    asked = {"color": scene.colors, "position": scene.positions, "reading": scene.readings}[kind]()
    return draw.choice(asked) if asked else None


def shown(
    name: str, split: Split, seed: int, kinds: tuple[QuestionKind, ...] = _WEIGHTED
) -> Iterator[tuple[Scene, Asked]]:
    """Endless scenes, each with a question.

    Args:
        name: of the data set; each has other draws.
        split: of the scenes.
        seed: of the draws.
        kinds: of the questions, equally often; one may be named twice.
    """
    draw = Draw(f"{name} {split} {seed}")
    found = scenes(draw, split)
    while True:
        kind, asked = draw.choice(kinds), None
        while asked is None:
            scene = next(found)
            if kind != "count" or scene.shapes:
                asked = ask(draw, scene, kind)
        yield scene, asked


def _scene(draw: Draw) -> Scene:
    """Draws a scene of a few kinds and colors, so that several shapes share one."""
    with_number = draw.chance(0.4)
    number_only = with_number and draw.chance(0.4)
    count = 0 if number_only else draw.between(1, MAX_SHAPES)
    places = draw.some(range(9), count + with_number)
    kinds = draw.some(KINDS, draw.between(1, 4))
    colors = draw.some(tuple(COLORS), draw.between(1, 4))
    shapes = [_shape(draw, draw.choice(kinds), draw.choice(colors), place) for place in sorted(places[:count])]
    number = _number(draw, places[-1]) if with_number else None
    return Scene(draw.below(len(BACKGROUNDS)), tuple(shapes), number)


def _shape(draw: Draw, kind: Kind, color: str, place: int) -> Shape:
    """Draws size and shift of a shape; one pixel of the place stays free on every side."""
    radius = draw.between(6, 8)
    slack = 9 - radius
    return Shape(kind, color, place, radius, (draw.between(-slack, slack), draw.between(-slack, slack)))


def _number(draw: Draw, place: int) -> Number:
    value = draw.below(10) if draw.chance(0.3) else draw.between(10, 99)
    digits = len(str(value))
    width = digits * DIGIT_WIDTH + (digits - 1) * DIGIT_GAP
    return Number(value, place, (draw.below(_PLACE - width), draw.below(_PLACE - DIGIT_HEIGHT)))


def _count(name: str, number: int) -> Asked:
    many = f"{name}es" if name.endswith("s") else f"{name}s"
    sentence = f"There is 1 {name}." if number == 1 else f"There are {number} {many}."
    return Asked("count", f"How many {many} are there?", str(number), sentence)


def _compare(first: Shape, second: Shape, *, sideways: bool) -> Asked | None:
    """Question about which of two shapes is further left or above; None: neither is."""
    mine, other = (shape.place % 3 if sideways else shape.place // 3 for shape in (first, second))
    if mine == other:
        return None
    before, after = ("left", "right") if sideways else ("above", "below")
    answer = before if mine < other else after
    of = " of" if sideways else ""
    question = f"Is the {first.name} {before} or {after}{of} the {second.name}?"
    return Asked("position", question, answer, f"The {first.name} is {answer}{of} the {second.name}.")
