"""Curves of the report: points from metrics.jsonl, thinned and drawn as SVG paths.

Coordinates of a curve are 0 … WIDTH to the right and 0 … HEIGHT downwards; the page stretches it to its width and
places the labels outside the SVG, so that their size does not change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from burnish.watch.format import MetricFormat, metric_format, rank
from burnish.watch.journal_lines import MetricsLine
from burnish.watch.run_counters import COUNTERS

WIDTH, HEIGHT = 1000.0, 300.0
BUCKETS = 400
"""Intervals of steps of which a longer series keeps the lowest and the highest point: outliers stay visible, and a
curve has at most twice as many points."""
SMOOTH_FROM = 60
"""Number of points from which a noisy series gets a smoothed line."""
SMOOTH_SHARE = 0.04
"""Window of the smoothed line, as a share of the points."""
DECADES = 1.5
"""Powers of ten between the lowest and the highest value from which an axis is logarithmic."""

Point = tuple[float, float]
"""Step and value."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a curve."""

    label: str
    """train, eval, or "" if it is the only one."""
    path: str
    """SVG path."""
    smooth: str
    """SVG path of the smoothed line; "": the series is short or not noisy."""
    dots: bool
    """Whether its points are marked, since they are few."""
    last: str
    """Last value, formatted."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Tick of an axis."""

    at: float
    """Position in percent of the axis, from the left or from the top."""
    text: str


@dataclass(frozen=True, slots=True)
class Curve:
    """Curve of one metric."""

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
    """Whether values are formatted as percent."""


def collect(lines: Iterable[MetricsLine]) -> dict[str, dict[str, list[Point]]]:
    """Name of a metric → prefix (train, eval or "") → its points in the order of steps."""
    points: dict[str, dict[str, list[Point]]] = {}
    for line in lines:
        for key, value in line.metrics.items():
            if key not in COUNTERS and math.isfinite(value):
                prefix, _, name = key.rpartition("/")
                points.setdefault(name, {}).setdefault(prefix, []).append((line.step, value))
    return points


def draw(lines: Iterable[MetricsLine]) -> list[Curve]:
    """Curve of every metric, the most important first."""
    points = collect(lines)
    return [_curve(name, points[name]) for name in sorted(points, key=rank)]


def thin(points: Sequence[Point], buckets: int = BUCKETS) -> list[Point]:
    """First and last point, and the lowest and highest of each bucket of points, in their order."""
    if len(points) <= 2 * buckets + 2:
        return list(points)
    inner = range(1, len(points) - 1)
    indices = {0, len(points) - 1}
    for bucket in range(buckets):
        part = inner[len(inner) * bucket // buckets : len(inner) * (bucket + 1) // buckets]
        indices.add(min(part, key=lambda index: points[index][1]))
        indices.add(max(part, key=lambda index: points[index][1]))
    return [points[index] for index in sorted(indices)]


def smooth(points: Sequence[Point]) -> list[Point]:
    """Centered moving average, with a smaller window at the ends."""
    reach = max(1, round(len(points) * SMOOTH_SHARE / 2))
    totals = [0.0]
    for _, value in points:
        totals.append(totals[-1] + value)
    result = []
    for index, (step, _) in enumerate(points):
        side = min(reach, index, len(points) - 1 - index)
        result.append((step, (totals[index + side + 1] - totals[index - side]) / (2 * side + 1)))
    return result


def _curve(name: str, series: Mapping[str, Sequence[Point]]) -> Curve:
    style = metric_format(name)
    values = [value for points in series.values() for _, value in points]
    logarithmic = style.logarithmic and min(values) > 0 and math.log10(max(values) / min(values)) > DECADES
    low, high = _range(values, logarithmic)
    steps = [step for points in series.values() for step, _ in points]
    first, last = min(steps), max(*steps, min(steps) + 1)

    def place(point: Point) -> Point:
        height = math.log10(point[1]) if logarithmic else point[1]
        return WIDTH * (point[0] - first) / (last - first), HEIGHT * (high - height) / (high - low)

    longest = max(map(len, series.values()))
    return Curve(
        name=name,
        title=style.title,
        series=tuple(_series(label, series[label], place, style) for label in sorted(series, reverse=True)),
        rows=tuple(_rows(low, high, logarithmic, style)),
        columns=tuple(Tick(100 * (step - first) / (last - first), f"{step:,}") for step in _steps(first, last)),
        low=low,
        high=high,
        first=first,
        last=last,
        logarithmic=logarithmic,
        thinned=longest if longest > 2 * BUCKETS + 2 else 0,
        percent=style.is_share,
    )


def _series(label: str, points: Sequence[Point], place: Any, style: MetricFormat) -> Series:
    noisy = len(points) >= SMOOTH_FROM and _turns(points) > len(points) / 5
    return Series(
        label=label,
        path=_path([place(point) for point in thin(points)]),
        smooth=_path([place(point) for point in thin(smooth(points))]) if noisy else "",
        dots=len(points) <= 40,
        last=style.write(points[-1][1]),
    )


def _turns(points: Sequence[Point]) -> int:
    """Number of changes between rising and falling, which is large for noise."""
    signs = [after > before for (_, before), (_, after) in pairwise(points) if after != before]
    return sum(one != other for one, other in pairwise(signs))


def _path(points: Sequence[Point]) -> str:
    """Example: ``M0 300L500 150L1000 0``. A single point is a line of length 0, drawn as a dot by its round ends."""
    drawn = [*points, points[0]] if len(points) == 1 else points
    return "M" + "L".join(f"{_plain(x)} {_plain(y)}" for x, y in drawn)


def _plain(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _range(values: Sequence[float], logarithmic: bool) -> Point:
    """Bottom and top of the axis, with a margin; logarithms if it is logarithmic."""
    low, high = min(values), max(values)
    if logarithmic:
        return math.floor(math.log10(low)), math.ceil(math.log10(high))
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 0.5
    return (0.0 if 0 <= low <= 0.3 * high else low - margin), high + margin


def _rows(low: float, high: float, logarithmic: bool, style: MetricFormat) -> Iterable[Tick]:
    marks = range(math.ceil(low), math.floor(high) + 1) if logarithmic else nice_marks(low, high, 3)
    for mark in marks:
        yield Tick(100 * (high - mark) / (high - low), style.write(10.0**mark if logarithmic else mark))


def _steps(first: float, last: float) -> list[int]:
    """A few whole steps as ticks."""
    return sorted({int(mark) for mark in nice_marks(first, last, 3) if mark == int(mark)})


def nice_marks(low: float, high: float, min_marks: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from low to high: as few as possible, at least `min_marks`."""
    power = math.floor(math.log10(high - low))
    widths = (factor * 10.0**exponent for exponent in (power, power - 1, power - 2) for factor in (5, 2, 1))
    for width in widths:
        marks = range(math.ceil(low / width), math.floor(high / width) + 1)
        if len(marks) >= min_marks:
            return [round(mark * width, 12 - power) for mark in marks]
    raise AssertionError(f"between {low} and {high} there are multiples of a hundredth of their distance")
