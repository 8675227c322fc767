"""Alerts of learning by trying: silent on healthy noise, once where a policy stops trying."""

from __future__ import annotations

import random

import pytest

from burnish.watch.alerts import Alerts
from burnish.watch.report import newest_rollouts
from burnish.watch.trying import WINDOW

HEALTHY = {"reward": 0.3, "reward_std": 0.4, "entropy": 1.0, "identical": 0.1, "response_length": 50.0}


def fired(series: list[dict[str, float]]) -> list[tuple[str, int]]:
    alerts, found = Alerts(), []
    for step, figures in enumerate(series, start=1):
        line = {"stage": "rl", "step": step, **{f"rollout/{name}": value for name, value in figures.items()}}
        found += [(alert.name, alert.step) for alert in alerts.observe(line)]
    return found


def noisy(count: int, **changes: float) -> list[dict[str, float]]:
    draw = random.Random(0)
    figures = {"unjudged_share": 0.0, **HEALTHY, **changes}
    return [{name: value * draw.uniform(0.7, 1.3) for name, value in figures.items()} for _ in range(count)]


def test_healthy_runs_are_silent():
    assert fired(noisy(100)) == []


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("collapse", {"entropy": 0.02}),
        ("collapse", {"identical": 1.3}),
        ("no_reward", {"reward": 0.0, "reward_std": 0.0}),
        ("length_drift", {"response_length": 200.0}),
        ("length_drift", {"response_length": 5.0}),
        ("unjudged", {"unjudged_share": 0.3}),
    ],
)
def test_each_sign_is_told_once_and_anew_after_it_was_gone(name, changes):
    series = noisy(40) + noisy(40, **changes) + noisy(40) + noisy(40, **changes)
    told = fired(series)
    assert [alert for alert, _ in told] == [name, name]
    assert 40 < told[0][1] <= 40 + WINDOW
    assert 120 < told[1][1] <= 120 + WINDOW


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
