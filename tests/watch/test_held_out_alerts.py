"""The alert for held-out figures that become worse: silent on noise, once until there is a better evaluation."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.watch.alerts import Alerts
from burnish.watch.journal_lines import AlertLine, MetricsLine


def alerts(evaluations: Iterable[Mapping[str, float]], stage: str = "sft") -> list[AlertLine]:
    """Alerts of evaluations every ten steps, the first before training."""
    rules = Alerts()
    lines = (MetricsLine(stage, 10 * number, metrics) for number, metrics in enumerate(evaluations))
    return [alert for line in lines for alert in rules.observe(line)]


def losses(*values: float) -> list[dict[str, float]]:
    return [{"eval/loss": value} for value in values]


def shares(name: str, values: Iterable[float], reach: float) -> list[dict[str, float]]:
    """A share with its 95 % interval."""
    return [{f"eval/{name}": v, f"eval/{name}_low": v - reach, f"eval/{name}_high": v + reach} for v in values]


def test_a_held_out_loss_that_rises_is_told_with_its_numbers():
    [alert] = alerts(losses(3.0, 2.0, 1.5, 1.6, 1.75, 1.9, 2.2))
    assert (alert.alert, alert.step) == ("held_out_worse", 40)
    for words in ("held-out loss rises", "1.6 and 1.75", "the lowest was 1.5 after step 20", "keep_best"):
        assert words in alert.message


@pytest.mark.parametrize(
    "values",
    [
        (3.0, 2.0, 1.5, 1.6, 1.49),  # a single worse evaluation
        (3.0, 2.0, 1.5, 1.6, 1.51, 1.6, 1.51),  # never twice in a row
        (3.0, 2.0, 1.5, 1.52, 1.515, 1.52),  # within the margin
        (3.0, 2.5, 2.0, 2.2, 1.5, 1.8, 1.8),  # no more than twice a rise after which it fell
    ],
)
def test_what_may_be_noise_is_not_told(values):
    assert alerts(losses(*values)) == []


@given(st.integers(0, 2**32), st.floats(0.1, 10), st.floats(0, 0.004), st.integers(1, 60))
def test_a_falling_loss_with_noise_is_silent(seed, final, noise, count):
    draw = random.Random(seed)
    falling = [final * (1 + 2 * math.exp(-number / 5)) * (1 + draw.gauss(0, noise)) for number in range(count)]
    assert alerts(losses(*falling)) == []


@pytest.mark.parametrize("best", [0.01, -0.5])
def test_a_loss_near_zero_has_the_margin_of_its_fall(best):
    """A preference loss that fell from 0.69: a hundredth more is no sign."""
    assert alerts(losses(0.693, 0.3, best, best + 0.01, best + 0.01, best + 0.01)) == []
    assert len(alerts(losses(0.693, 0.3, best, best + 0.05, best + 0.05))) == 1


def test_it_is_raised_again_only_after_a_better_evaluation():
    worse = [1.0, 1.2, 1.2, 1.01, 1.2, 1.2, 1.2]
    assert len(alerts(losses(2.0, *worse))) == 1
    again = alerts(losses(2.0, *worse, 0.5, 1.5, 1.5))
    assert [alert.count for alert in again] == [1, 2]


def test_training_that_only_makes_it_worse():
    [alert] = alerts(losses(1.0, 1.5, 2.0))
    assert "the lowest was 1 before training" in alert.message


@pytest.mark.parametrize("stage", ["prefer", "reward"])
def test_an_accuracy_that_falls(stage):
    [alert] = alerts(shares("pair_accuracy", [0.5, 0.8, 0.6, 0.58, 0.55], 0.05), stage)
    assert alert.step == 30
    assert "held-out pair accuracy falls: 60 % and 58 % in the last 2 evaluations" in alert.message
    assert "the highest was 80 % after step 10" in alert.message


def test_the_reward_of_an_evaluation_that_falls():
    [alert] = alerts(shares("reward", [0.1, 0.7, 0.4, 0.3], 0.1), "rl")
    assert "the reward on held-out prompts falls: 0.4 and 0.3" in alert.message
    assert "kl_coef" in alert.message


def test_overlapping_intervals_are_no_difference():
    assert alerts(shares("reward", [0.1, 0.7, 0.55, 0.52, 0.6, 0.55], 0.1), "rl") == []
    assert alerts([{"eval/reward": value} for value in (0.1, 0.7, 0.2, 0.1)], "rl") == [], "without an interval"


@given(st.integers(0, 2**32), st.sampled_from([16, 128, 1000]), st.floats(0.2, 0.8))
def test_answers_of_the_same_policy_are_silent(seed, prompts, success):
    """The best of many equal evaluations is high by chance."""
    draw = random.Random(seed)
    rewards = [sum(draw.random() < success for _ in range(prompts)) / prompts for _ in range(15)]
    reach = 1.96 * math.sqrt(success * (1 - success) / prompts)
    assert len(alerts(shares("reward", rewards, reach), "rl")) <= 1, "one chance in many"


@given(st.integers(0, 8))
def test_a_resumed_run_remembers_the_best(at):
    evaluations = losses(3.0, 2.0, 1.5, 1.6, 1.75, 1.2, 1.5, 1.6)
    lines = [MetricsLine("sft", number, metrics) for number, metrics in enumerate(evaluations)]
    whole, resumed = Alerts(), Alerts(lines[:at])
    raised = [whole.observe(line) for line in lines]
    assert [resumed.observe(line) for line in lines[at:]] == raised[at:]
