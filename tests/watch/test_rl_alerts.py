"""Alerts for reinforcement learning: silent on healthy noise, once per episode."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import get_args

import pytest

from burnish.watch.alerts import Alerts, rl_rules
from burnish.watch.journal_lines import EvalSample, MetricsLine, RolloutSample, SampleLine
from burnish.watch.report import newest_rollouts, write_report
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
    for step, metrics in enumerate(series, start=1):
        line = MetricsLine("rl", step, {f"rollout/{name}": value for name, value in metrics.items()})
        found += [(alert.alert, alert.step) for alert in alerts.observe(line)]
    return found


def noisy(count: int, **changes: float) -> list[dict[str, float]]:
    draw = random.Random(0)
    metrics = {"ungraded_share": 0.0, **HEALTHY, **changes}
    return [{name: value * draw.uniform(0.7, 1.3) for name, value in metrics.items()} for _ in range(count)]


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
def test_each_alert_is_raised_once_per_episode(name, changes):
    series = noisy(40) + noisy(40, **changes) + noisy(40) + noisy(40, **changes)
    raised = fired(series)
    assert [alert for alert, _ in raised] == [name, name]
    assert 40 < raised[0][1] <= 40 + WINDOW
    assert 120 < raised[1][1] <= 120 + WINDOW


def moving(count: int, **ends: tuple[float, float]) -> list[dict[str, float]]:
    """Metrics that go from one value to another, with noise."""
    draw = random.Random(1)
    return [
        {name: a + (b - a) * step / count + draw.uniform(-0.05, 0.05) for name, (a, b) in ends.items()}
        for step in range(count)
    ]


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ({"reward": (0.3, 0.8), "reward/format": (0.1, 0.9), "reward/math": (0.5, 0.1)}, True),
        ({"reward": (0.3, 0.8), "reward/format": (0.1, 0.9), "reward/math": (0.1, 0.5)}, False),
        ({"reward": (0.3, 0.8), "reward/format": (0.1, 0.9), "reward/math": (0.3, 0.3)}, False),
        ({"reward": (0.8, 0.3), "reward/format": (0.8, 0.3), "reward/math": (0.5, 0.1)}, False),
        ({"reward": (0.3, 0.8), "reward/math": (0.3, 0.8)}, False),
        ({"reward": (0.3, 0.8), "reward/code": (0.3, 0.8), "reward/code/timeout": (0.7, 0.2)}, False),
    ],
    ids=["hacking", "both rise", "one stays", "both fall", "alone", "a label"],
)
def test_a_reward_that_rises_while_a_part_of_it_falls(ends, expected):
    found = fired(moving(60, **ends))
    assert ([name for name, _ in found] == ["reward_hacking"]) is expected


def test_reward_hacking_is_raised_once():
    back = {"reward": (0.8, 0.8), "reward/format": (0.9, 0.9), "reward/math": (0.5, 0.5)}
    gone = {"reward": (0.3, 0.8), "reward/format": (0.1, 0.9), "reward/math": (0.5, 0.1)}
    assert [name for name, _ in fired([*moving(60, **gone), *moving(40, **back)])] == ["reward_hacking"]


def test_every_alarm_has_its_rule():
    assert [rule.name for rule in rl_rules()] == list(get_args(AlarmName))


def test_steps_without_rollouts_raise_no_alert():
    assert fired([metrics if step % 2 else {} for step, metrics in enumerate(noisy(60))]) == []


def test_the_report_shows_the_newest_rollouts():
    texts = {"prompt": "2 + 2?", "response": "4", "reference": "4"}
    sample = RolloutSample(rollout="best", row=3, **texts, reward=1.0, logprob=-0.1)
    lines = [SampleLine("rl", step, replace(sample, advantage=a)) for step, a in ((1, None), (11, 0.5))]
    newest, oldest = newest_rollouts([*lines, SampleLine("rl", 12, EvalSample(index=3, **texts, correct=True))])
    assert newest == (11, replace(sample, advantage=0.5))
    assert oldest == (1, sample)


def test_the_report_shows_the_outcome_of_every_reward(tmp_path):
    parts = {"math": 1.0, "own": "crash: <x>", "style": None}
    sample = RolloutSample(rollout="best", row=3, prompt="2 + 2?", response="4", reward=1.0, parts=parts, logprob=-0.1)
    (tmp_path / "samples.jsonl").write_text(json.dumps(SampleLine("rl", 1, sample).to_line()) + "\n")
    assert "math 1, own crash: &lt;x&gt;, style not graded" in write_report(tmp_path).read_text()


@pytest.mark.parametrize(
    ("cost", "expected"), [((0.5, 0.1), []), ((0.1, 0.5), ["reward_hacking"])], ids=["less of it", "more of it"]
)
def test_of_a_penalty_less_is_better(cost, expected):
    """A reward of negative weight that falls is what it is for; one that rises while the sum does is not."""
    series = moving(60, **{"reward": (0.3, 0.8), "reward/math": (0.3, 0.9), "reward/length": cost})
    alerts, found = Alerts(penalties=["length"]), []
    for step, metrics in enumerate(series, start=1):
        line = MetricsLine("rl", step, {f"rollout/{name}": value for name, value in metrics.items()})
        found += alerts.observe(line)
    assert [alert.alert for alert in found] == expected
    assert all("length rises" in alert.message for alert in found)


def test_equal_rewards_are_told_once_per_episode():
    series = [{"reward": 0.5, "equal_rewards": value} for value in (1.0, 1.0, 0.5, *[1.0] * 9, 0.9, *[1.0] * 3)]
    assert fired(series) == [("equal_rewards", 6), ("equal_rewards", 16)]


def test_responses_that_nothing_graded_are_no_zeros():
    series = [{"reward": 0.0, "reward_std": 0.0, "ungraded_share": 1.0}] * 20
    assert [name for name, _ in fired(series)] == ["ungraded"]
