"""Curves: nothing that stands out is lost by thinning, and what is drawn is where it belongs."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.watch.curves import HEIGHT, WIDTH, collect, draw, nice_marks, smooth, thin
from burnish.watch.journal_lines import MetricsLine

values = st.floats(-1e6, 1e6, allow_nan=False)


def points(series) -> list[tuple[float, float]]:
    return [(float(step), value) for step, value in enumerate(series)]


@given(st.lists(values, min_size=1, max_size=500), st.integers(1, 20))
def test_thinning_keeps_ends_extremes_and_order(series, buckets):
    whole = points(series)
    kept = thin(whole, buckets)
    assert len(kept) <= max(2 * buckets + 2, 1)
    assert kept == [point for point in whole if point in set(kept)]
    assert kept[0] == whole[0]
    assert kept[-1] == whole[-1]
    assert {min(value for _, value in kept), max(value for _, value in kept)} == {min(series), max(series)}


@given(st.lists(values, min_size=1, max_size=100))
def test_few_points_are_all_kept(series):
    assert thin(points(series)) == points(series)


@given(st.lists(values, min_size=1, max_size=200))
def test_smoothing_stays_between_the_extremes_and_at_the_ends(series):
    smoothed = smooth(points(series))
    assert [step for step, _ in smoothed] == list(range(len(series)))
    slack = 1e-6 * (1 + max(map(abs, series))) + 1e-12 * sum(map(abs, series))
    assert all(min(series) - slack <= value <= max(series) + slack for _, value in smoothed)
    assert smoothed[0][1] == pytest.approx(series[0], abs=slack)
    assert smoothed[-1][1] == pytest.approx(series[-1], abs=slack)


@given(st.floats(-10, 10), st.floats(-3, 3))
def test_smoothing_leaves_a_straight_line_alone(start, slope):
    series = [start + slope * step for step in range(300)]
    assert [value for _, value in smooth(points(series))] == pytest.approx(series, abs=1e-9)


def test_smoothing_takes_noise_away():
    series = [step % 2 * 1.0 for step in range(1000)]
    assert all(abs(value - 0.5) < 0.03 for _, value in smooth(points(series))[50:-50])


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(1, 5))
def test_marks_are_round_and_inside(low, width, least):
    high = low + width
    if high - low < 1e-9 * max(abs(low), abs(high)):  # nearer than their digits can tell apart
        return
    marks = nice_marks(low, high, least)
    assert least <= len(marks) <= 6 * least + 1
    assert all(low - 1e-6 * width <= mark <= high + 1e-6 * width for mark in marks)


def test_marks_that_one_would_write():
    assert nice_marks(0, 10, 3) == [0, 5, 10]
    assert nice_marks(0.1, 0.53, 3) == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert nice_marks(980, 1020, 3) == [980, 1000, 1020]


def lines(losses):
    return [MetricsLine("sft", step, {"train/loss": loss}) for step, loss in enumerate(losses, start=1)]


def test_places_of_one_figure_are_one_picture():
    result = collect([*lines([3.0, 2.0]), MetricsLine("sft", 2, {"eval/loss": 2.5, "eval/nll": 1.0})])
    assert result == {"loss": {"train": [(1, 3.0), (2, 2.0)], "eval": [(2, 2.5)]}, "nll": {"eval": [(2, 1.0)]}}
    [curve, _] = draw([*lines([3.0, 2.0]), MetricsLine("sft", 2, {"eval/loss": 2.5, "eval/nll": 1.0})])
    assert [series.label for series in curve.series] == ["train", "eval"]
    assert [series.last for series in curve.series] == ["2", "2.5"]


def test_what_is_no_figure_is_no_curve():
    broken = [MetricsLine("sft", 4, {"train/loss": value}) for value in (math.nan, math.inf)]
    assert collect([*lines([1.0]), *broken]) == {"loss": {"train": [(1, 1.0)]}}


def read_back(curve) -> list[tuple[float, float]]:
    """Steps and values of the first series, as the page's script reads them from the path."""
    pairs = [tuple(map(float, pair.split())) for pair in curve.series[0].path[1:].split("L")]
    heights = [curve.high - (curve.high - curve.low) * y / HEIGHT for _, y in pairs]
    steps = [curve.first + (curve.last - curve.first) * x / WIDTH for x, _ in pairs]
    return list(zip(steps, [10**h if curve.logarithmic else h for h in heights], strict=True))


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=50))
def test_the_picture_holds_the_values(losses):
    [curve] = draw(lines(losses))
    precision = (curve.high - curve.low) / HEIGHT / 100  # of the axis: a path has two digits after the point
    shown = read_back(curve)
    axis = math.log10 if curve.logarithmic else float
    assert [step for step, _ in shown] == pytest.approx(range(1, len(losses) + 1), abs=0.011)
    assert [axis(value) for _, value in shown] == pytest.approx([axis(loss) for loss in losses], abs=precision)
    assert all(0 <= float(y) <= HEIGHT for y in re.findall(r" (-?[\d.]+)", curve.series[0].path))
    assert all(-1e-6 <= tick.at <= 100.001 for tick in (*curve.rows, *curve.columns))


def test_norms_over_many_decades_have_a_logarithmic_axis():
    norms = [10.0**-step for step in range(5)]
    [curve] = draw([MetricsLine("sft", step, {"train/grad_norm": norm}) for step, norm in enumerate(norms)])
    assert curve.logarithmic
    assert [tick.text for tick in curve.rows] == ["0.0001", "0.001", "0.01", "0.1", "1"]
    assert [value for _, value in read_back(curve)] == pytest.approx(norms, rel=0.01)
    [plain] = draw([MetricsLine("sft", step, {"train/grad_norm": norm}) for step, norm in enumerate([0.0, *norms])])
    assert not plain.logarithmic, "zero has no logarithm"


def test_a_constant_and_a_single_point_are_drawn():
    for losses in ([0.0], [2.0], [2.0, 2.0], [-1e-9, -1e-9]):
        [curve] = draw(lines(losses))
        assert curve.low < losses[0] < curve.high or (losses[0] == 0 and curve.high > 0)
        assert math.isfinite(read_back(curve)[0][1])
