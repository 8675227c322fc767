"""Reward shaping: hand values, running statistics, and their state."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from burnish.rollouts.settings import ShapingRule
from burnish.rollouts.shaping import RewardShaper, RunningStatistics
from burnish.settings.reward_shaping import RewardShaping
from burnish.types import Finish, Response


def response(size: int, finish: Finish = "end") -> Response:
    return Response(tokens=torch.arange(size), trainable=torch.ones(size, dtype=torch.bool), finish=finish)


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=30))
def test_running_statistics_are_those_of_all_numbers(values):
    running = RunningStatistics()
    for value in values:
        running.add(value)
    assert running.count == len(values)
    assert math.isclose(running.mean, statistics.fmean(values), rel_tol=1e-9, abs_tol=1e-9)
    assert math.isclose(running.deviation, statistics.stdev(values), rel_tol=1e-6, abs_tol=1e-6)


def test_normalization_by_hand():
    """Of 1, 3 and 5: mean 3, standard deviation 2. What is not graded is in no statistic, and stays."""
    for normalize, expected in (("scale", [0.5, 2.5]), ("standardize", [-1.0, 1.0]), ("none", [1.0, 5.0])):
        shaper = RewardShaper(ShapingRule(normalize))
        shaper.observe(tensor(1, math.nan, 3))
        shaper.observe(tensor(5))
        found = shaper([response(1)] * 3, tensor(1, 5, math.nan))
        assert found[:2].tolist() == pytest.approx(expected)
        assert bool(found[2].isnan())


def test_equal_rewards_are_not_divided():
    shaper = RewardShaper(ShapingRule("standardize"))
    shaper.observe(tensor(2, 2))
    assert shaper([response(1)] * 2, tensor(2, 2)).tolist() == [0.0, 0.0]


def test_clipping_then_penalties():
    rule = ShapingRule(clip=2.0, missing_end_penalty=1.0, length_penalty=0.1)
    shaped = RewardShaper(rule)([response(3), response(5, "length")], tensor(7, -9))
    assert shaped.tolist() == pytest.approx([2 - 0.3, -2 - 1 - 0.5])


def test_the_state_is_that_of_the_statistics():
    whole, first, second = (RewardShaper(ShapingRule("scale")) for _ in range(3))
    for shaper in (whole, first):
        shaper.observe(tensor(0.1, 0.7))
    second.load_state_dict(first.state_dict())
    for shaper in (whole, second):
        shaper.observe(tensor(0.3, 0.9))
    assert vars(whole.statistics) == vars(second.statistics)


def test_defaults_shape_nothing():
    assert RewardShaping().rule is None
    assert RewardShaping(clip=3.0).rule == ShapingRule(clip=3.0)
