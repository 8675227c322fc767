"""Alerts of learning by trying: silent on healthy noise, once where a policy stops trying."""

from __future__ import annotations

import random
from typing import get_args

import pytest

from burnish.watch.alerts import Alerts, rl_rules
from burnish.watch.report import newest_rollouts
from burnish.watch.rl_alerts import WINDOW
from burnish.watch.settings import AlarmName

HEALTHY = {
    "reward": 0.3,
    "reward_std": 0.4,
    "entropy": 1.0,
    "duplicates": 0.1,
    "response_length": 50.0,
    "repetition": 0.05,
    "reference_kl": 0.1,
}


def fired(series: list[dict[str, float]]) -> list[tuple[str, int]]:
    alerts, found = Alerts(), []
    for step, figures in enumerate(series, start=1):
        line = {"stage": "rl", "step": step, **{f"rollout/{name}": value for name, value in figures.items()}}
        found += [(alert.name, alert.step) for alert in alerts.observe(line)]
    return found


def noisy(count: int, **changes: float) -> list[dict[str, float]]:
    draw = random.Random(0)
    figures = {"ungraded_share": 0.0, **HEALTHY, **changes}
    return [{name: value * draw.uniform(0.7, 1.3) for name, value in figures.items()} for _ in range(count)]


def test_healthy_runs_are_silent():
    assert fired(noisy(100)) == []


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("entropy_collapse", {"entropy": 0.02}),
        ("entropy_collapse", {"duplicates": 1.3}),
        ("zero_reward", {"reward": 0.0, "reward_std": 0.0}),
        ("length_drift", {"response_length": 200.0}),
        ("length_drift", {"response_length": 5.0}),
        ("ungraded", {"ungraded_share": 0.3}),
        ("repetition", {"repetition": 0.6}),
        ("kl_drift", {"reference_kl": 1.0}),
    ],
)
def test_each_sign_is_told_once_and_anew_after_it_was_gone(name, changes):
    series = noisy(40) + noisy(40, **changes) + noisy(40) + noisy(40, **changes)
    told = fired(series)
    assert [alert for alert, _ in told] == [name, name]
    assert 40 < told[0][1] <= 40 + WINDOW
    assert 120 < told[1][1] <= 120 + WINDOW


def moving(count: int, **ends: tuple[float, float]) -> list[dict[str, float]]:
    """Figures that go from one value to another, with noise."""
    draw = random.Random(1)
    return [
        {name: a + (b - a) * step / count + draw.uniform(-0.05, 0.05) for name, (a, b) in ends.items()}
        for step in range(count)
    ]


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ({"reward": (0.3, 0.8), "reward/format": (0.1, 0.9), "reward/math": (0.5, 0.1)}, True),
        ({"reward": (0.3, 0.8), "reward/format": (0.1, 0.9), "reward/math": (0.1, 0.5)}, False),
        ({"reward": (0.3, 0.8), "reward/format": (0.1, 0.9), "reward/math": (0.3, 0.3)}, False),
        ({"reward": (0.8, 0.3), "reward/format": (0.8, 0.3), "reward/math": (0.5, 0.1)}, False),
        ({"reward": (0.3, 0.8), "reward/math": (0.3, 0.8)}, False),
    ],
    ids=["a trick", "both rise", "one stays", "both fall", "alone"],
)
def test_a_reward_that_rises_while_a_part_of_it_falls(ends, told):
    found = fired(moving(60, **ends))
    assert ([name for name, _ in found] == ["reward_hacking"]) is told


def test_a_part_that_is_told_of_is_told_once():
    back = {"reward": (0.8, 0.8), "reward/format": (0.9, 0.9), "reward/math": (0.5, 0.5)}
    gone = {"reward": (0.3, 0.8), "reward/format": (0.1, 0.9), "reward/math": (0.5, 0.1)}
    assert [name for name, _ in fired([*moving(60, **gone), *moving(40, **back)])] == ["reward_hacking"]


def test_every_alarm_has_its_rule():
    assert [rule.name for rule in rl_rules()] == list(get_args(AlarmName))


def test_steps_without_responses_are_no_sign():
    assert fired([figures if step % 2 else {} for step, figures in enumerate(noisy(60))]) == []


def test_the_report_shows_the_newest_responses():
    line = {"stage": "rl", "prompt": "2 + 2?", "response": "4", "reference": "4", "logprob": -0.1}
    written = [
        {
            **line,
            "step": step,
            "rollout": "best",
            "reward": 1.0,
            "parts": {"math": 1.0, "own": "crash: x"},
            "advantage": a,
        }
        for step, a in ((1, None), (11, 0.5))
    ]
    newest, oldest = newest_rollouts([*written, {**line, "step": 12, "index": 3, "correct": True}])
    assert (newest.step, newest.advantage, oldest.advantage) == (11, 0.5, None)
    assert newest.parts == [("math", "1"), ("own", "crash: x")]
