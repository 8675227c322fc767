"""Curves of the report: points from metrics.jsonl, thinned, laid out as paths of SVG.

Under `report`. Coordinates of a picture are 0 … WIDTH to the right and 0 … HEIGHT downwards; the page stretches it to
whatever width there is, and writes the labels beside it, so that they are as large on a phone as on a desk.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeGuard

from burnish.watch.format import Figure, figure, rank
from burnish.watch.seen import COUNTERS

WIDTH, HEIGHT = 1000.0, 300.0
BUCKETS = 400
"""A longer series keeps the lowest and the highest point of each of so many runs of steps: nothing that stands out is
lost, and a curve has at most twice as many points."""
SMOOTH_FROM = 60
"""Points from which on a noisy series gets a smooth line over it."""
SMOOTH_SHARE = 0.04
"""Of the points: how many the smooth line's mean looks at on either side together."""
DECADES = 1.5
"""Powers of ten between the lowest and the highest value from which on an axis is logarithmic."""
NOT_FIGURES = frozenset({"step", "count", *COUNTERS})

Point = tuple[float, float]
"""Step and value."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a picture."""

    label: str
    """train, eval, or "" when it is the only one."""
    path: str
    """What SVG draws."""
    smooth: str
    """The same, smoothed; "": the series is short, or is not noisy."""
    dots: bool
    """Whether its points are marked: few, and far between."""
    last: str
    """Its last value, for people."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis."""

    at: float
    """Percent of the axis, from the left or from above."""
    text: str


@dataclass(frozen=True, slots=True)
class Curve:
    """One picture."""

    name: str
    title: str
    series: tuple[Series, ...]
    rows: tuple[Tick, ...]
    columns: tuple[Tick, ...]
    low: float
    """Value at the bottom; its logarithm (base 10) if the axis is logarithmic."""
    high: float
    first: float
    """Step at the left."""
    last: float
    logarithmic: bool
    thinned: int
    """Points of the longest series before thinning; 0: nothing was thinned."""
    percent: bool
    """Whether values are shares."""


def collect(lines: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, list[Point]]]:
    """Name of a figure → where it was measured (train, eval or "") → its points in the order of steps."""
    found: dict[str, dict[str, list[Point]]] = {}
    for line in lines:
        if "alert" in line:
            continue
        step = line.get("step")
        for key, value in line.items():
            if key in NOT_FIGURES or not _is_number(value) or not _is_number(step):
                continue
            place, _, name = key.rpartition("/")
            found.setdefault(name, {}).setdefault(place, []).append((step, value))
    return found


def draw(lines: Iterable[Mapping[str, Any]]) -> list[Curve]:
    """A picture for every figure, the most important first."""
    found = collect(lines)
    return [_curve(name, found[name]) for name in sorted(found, key=rank)]


def thin(points: Sequence[Point], buckets: int = BUCKETS) -> list[Point]:
    """The first and last point, and of each bucket of points the lowest and the highest, in their order."""
    if len(points) <= 2 * buckets + 2:
        return list(points)
    inner = range(1, len(points) - 1)
    kept = {0, len(points) - 1}
    for bucket in range(buckets):
        part = inner[len(inner) * bucket // buckets : len(inner) * (bucket + 1) // buckets]
        kept.add(min(part, key=lambda index: points[index][1]))
        kept.add(max(part, key=lambda index: points[index][1]))
    return [points[index] for index in sorted(kept)]


def smooth(points: Sequence[Point]) -> list[Point]:
    """The mean of the points around each, as many on either side, fewer at the ends."""
    reach = max(1, round(len(points) * SMOOTH_SHARE / 2))
    totals = [0.0]
    for _, value in points:
        totals.append(totals[-1] + value)
    result = []
    for index, (step, _) in enumerate(points):
        side = min(reach, index, len(points) - 1 - index)
        result.append((step, (totals[index + side + 1] - totals[index - side]) / (2 * side + 1)))
    return result


def _curve(name: str, places: Mapping[str, Sequence[Point]]) -> Curve:
    shown = figure(name)
    values = [value for points in places.values() for _, value in points]
    logarithmic = shown.logarithmic and min(values) > 0 and math.log10(max(values) / min(values)) > DECADES
    low, high = _range(values, logarithmic)
    steps = [step for points in places.values() for step, _ in points]
    first, last = min(steps), max(*steps, min(steps) + 1)

    def place(point: Point) -> Point:
        height = math.log10(point[1]) if logarithmic else point[1]
        return WIDTH * (point[0] - first) / (last - first), HEIGHT * (high - height) / (high - low)

    longest = max(map(len, places.values()))
    return Curve(
        name=name,
        title=shown.title,
        series=tuple(_series(label, places[label], place, shown) for label in sorted(places, reverse=True)),
        rows=tuple(_rows(low, high, logarithmic, shown)),
        columns=tuple(Tick(100 * (step - first) / (last - first), f"{step:,}") for step in _steps(first, last)),
        low=low,
        high=high,
        first=first,
        last=last,
        logarithmic=logarithmic,
        thinned=longest if longest > 2 * BUCKETS + 2 else 0,
        percent=shown.is_share,
    )


def _series(label: str, points: Sequence[Point], place: Any, shown: Figure) -> Series:
    noisy = len(points) >= SMOOTH_FROM and _turns(points) > len(points) / 5
    return Series(
        label=label,
        path=_path([place(point) for point in thin(points)]),
        smooth=_path([place(point) for point in thin(smooth(points))]) if noisy else "",
        dots=len(points) <= 40,
        last=shown.write(points[-1][1]),
    )


def _turns(points: Sequence[Point]) -> int:
    """How often the series turns from rising to falling or back: often, if it is noise."""
    signs = [after > before for (_, before), (_, after) in pairwise(points) if after != before]
    return sum(one != other for one, other in pairwise(signs))


def _path(points: Sequence[Point]) -> str:
    """Example: ``M0 300L500 150L1000 0``. A single point is a line of no length, which round ends make a dot."""
    drawn = [*points, points[0]] if len(points) == 1 else points
    return "M" + "L".join(f"{_plain(x)} {_plain(y)}" for x, y in drawn)


def _plain(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _range(values: Sequence[float], logarithmic: bool) -> Point:
    """Bottom and top of the axis, with a little air; logarithms if it is logarithmic."""
    low, high = min(values), max(values)
    if logarithmic:
        return math.floor(math.log10(low)), math.ceil(math.log10(high))
    air = 0.06 * (high - low) or 0.1 * abs(high) or 0.5
    return (0.0 if 0 <= low <= 0.3 * high else low - air), high + air


def _rows(low: float, high: float, logarithmic: bool, shown: Figure) -> Iterable[Tick]:
    marks = range(math.ceil(low), math.floor(high) + 1) if logarithmic else nice_marks(low, high, 3)
    for mark in marks:
        yield Tick(100 * (high - mark) / (high - low), shown.write(10.0**mark if logarithmic else mark))


def _steps(first: float, last: float) -> list[int]:
    """A few marks, all whole steps."""
    return sorted({int(mark) for mark in nice_marks(first, last, 3) if mark == int(mark)})


def nice_marks(low: float, high: float, least: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from low to high: as few as there can be, at least so many."""
    power = math.floor(math.log10(high - low))
    widths = (factor * 10.0**exponent for exponent in (power, power - 1, power - 2) for factor in (5, 2, 1))
    for width in widths:
        marks = range(math.ceil(low / width), math.floor(high / width) + 1)
        if len(marks) >= least:
            return [round(mark * width, 12 - power) for mark in marks]
    raise AssertionError(f"between {low} and {high} there are multiples of a hundredth of their distance")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
