"""Alerts are raised once per episode, and never on healthy noise."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.watch.alerts import (
    LOSS_PATIENCE,
    LOSS_WINDOW,
    NO_GRADIENT,
    SAME_LOSS,
    SLOW_PATIENCE,
    SPIKE_PATIENCE,
    Alerts,
    is_announced,
)
from burnish.watch.journal_lines import AlertLine, MetricsLine


def lines(losses, norms=None, speeds=None, rates=None):
    """Lines of metrics.jsonl, of steps from 1."""
    count = len(losses)
    series = zip(
        losses, norms or [1.0 + step % 2 for step in range(count)], speeds or [100.0] * count, rates or [0.1] * count,
        strict=True,
    )  # fmt: skip
    for step, (loss, norm, speed, rate) in enumerate(series, start=1):
        metrics = {"train/loss": loss, "train/grad_norm": norm, "train/learning_rate": rate}
        yield MetricsLine("sft", step, {**metrics, "tokens_per_second": speed})


def fired(series) -> list[tuple[str, int]]:
    alerts = Alerts()
    return [(alert.alert, alert.step) for line in series for alert in alerts.observe(line)]


def healthy(seed: int, count: int, noise: float, final: float = 0.5) -> list[float]:
    """A loss that falls and is noisy."""
    draw = random.Random(seed)
    return [final + 3 * math.exp(-step / 40) + draw.gauss(0, noise) for step in range(count)]


@given(st.integers(0, 2**32), st.floats(0.001, 0.1), st.floats(0.5, 5), st.integers(1, 400))
def test_healthy_runs_are_silent(seed, noise, final, count):
    """Losses that fall with normal noise, norms that scatter by a factor of two, speeds by a third."""
    draw = random.Random(seed)
    norms = [math.exp(draw.gauss(0, 0.5)) * (1 + 5 * math.exp(-step / 10)) for step in range(count)]
    speeds = [1000 * draw.uniform(0.7, 1.3) for _ in range(count)]
    rates = [min(1, (step + 1) / 10) for step in range(count)]
    assert fired(lines(healthy(seed, count, noise, final), norms, speeds, rates)) == []


@given(st.integers(0, 2**32), st.floats(0.1, 10))
def test_a_loss_around_zero_is_no_divergence(seed, scale):
    """Losses of policy gradients have no sign: a share of them says nothing, their spread does."""
    draw = random.Random(seed)
    assert fired(lines([draw.gauss(0, scale) for _ in range(500)])) == []


def test_a_rising_loss_raises_one_alert():
    series = [*healthy(0, 200, 0.02), *(0.5 + step / 50 for step in range(200))]
    [(name, step)] = fired(lines(series))
    assert name == "divergence"
    assert 200 + LOSS_WINDOW / 2 < step < 200 + 2 * LOSS_WINDOW


@given(st.integers(0, 2**32), st.integers(1, 12), st.floats(20, 1000))
def test_a_loss_that_explodes_at_the_start_raises_an_alert(seed, at, factor):
    """The learning rate is far too large: the loss rises from the first steps, and its noise with it."""
    draw = random.Random(seed)
    losses = [5.5 * math.exp(draw.gauss(0, 0.05)) for _ in range(at)]
    losses += [5.5 * factor * math.exp(draw.gauss(0, 0.2)) for _ in range(100)]
    [(name, step)] = fired(lines(losses))
    assert name == "divergence"
    assert step <= 2 * LOSS_PATIENCE


def test_a_single_bad_batch_is_no_divergence():
    series = healthy(0, 300, 0.02)
    series[150:160] = [30.0] * 10
    assert fired(lines(series)) == []


def test_a_second_divergence_raises_a_second_alert():
    rise = [*[3.0 + step / 1e3 for step in range(100)], *[0.5 + step / 1e5 for step in range(100)]]
    names = [name for name, _ in fired(lines([*healthy(0, 200, 0.02), *rise, *rise]))]
    assert names == ["divergence", "divergence"]


def test_a_spike_of_the_gradient():
    norms = [1.0 + step % 3 for step in range(60)]
    norms[40] = 21.0
    assert fired(lines(healthy(0, 60, 0.02), norms)) == [("gradient_spike", 41)]
    early = [1.0, 50.0, *[1.0] * (SPIKE_PATIENCE - 2)]
    assert fired(lines(healthy(0, SPIKE_PATIENCE, 0.02), early)) == []


def test_gradients_of_zero():
    norms = [1.0, 0.0, 0.0, 1.0, *[0.0] * 10]
    assert fired(lines(healthy(0, 14, 0.02), norms)) == [("no_gradient", 4 + NO_GRADIENT)]


def test_the_same_loss_again_and_again():
    assert fired(lines([2.0, *[1.25] * 60])) == [("no_gradient", 1 + SAME_LOSS)]
    alternating = [1.25 + step % 2 * 2**-52 for step in range(60)]
    assert fired(lines(alternating)) == [], "the last bit differs"


def test_a_first_step_that_changes_nothing():
    assert fired(lines([2.0, 1.9], rates=[0.0, 0.1])) == [("no_gradient", 1)]
    assert fired(lines([2.0, 1.9], rates=[0.1, 0.0])) == []


def test_a_machine_that_becomes_slow():
    speeds = [*[1000.0] * 150, *[200.0] * 100, *[1000.0] * 10, *[200.0] * (SLOW_PATIENCE - 1)]
    assert fired(lines(healthy(0, len(speeds), 0.02), speeds=speeds)) == [("slowness", 150 + SLOW_PATIENCE)]


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=str)
def test_a_value_that_is_not_finite_raises_an_alert(value):
    assert fired(lines([1.0, 2.0, value])) == [("not_finite", 3)]


@given(st.integers(0, 300))
def test_a_resumed_run_alerts_as_if_it_had_never_stopped(at):
    losses = [*healthy(1, 150, 0.02), *[4.0 + step / 100 for step in range(150)]]
    norms = [40.0 if step in (50, 120, 280) else 1.0 + step % 2 for step in range(300)]
    series = list(lines(losses, norms))
    whole = Alerts()
    raised = [whole.observe(line) for line in series]
    resumed = Alerts(series[:at])
    assert [resumed.observe(line) for line in series[at:]] == raised[at:]


def test_an_evaluation_is_no_training_step():
    """Held-out losses come in between and are another series."""
    series = list(lines([2.0] + [1.25] * (SAME_LOSS - 1)))
    evaluations = [MetricsLine("sft", step, {"eval/loss": 1.25}) for step in range(100)]
    assert fired([*series, *evaluations]) == []


def test_repeated_alerts_are_announced_rarely():
    counts = [count for count in range(1, 2000) if is_announced(AlertLine("sft", 1, "gradient_spike", "", count))]
    assert counts == [1, 10, 100, 1000]


def pairs(chosen, rejected, where="train"):
    """Lines of the log-probabilities of pairs."""
    for step, (one, other) in enumerate(zip(chosen, rejected, strict=True), start=1):
        yield MetricsLine("prefer", step, {f"{where}/logprob_chosen": one, f"{where}/logprob_rejected": other})


@given(st.integers(0, 2**32), st.floats(5, 60))
def test_log_probabilities_of_other_rows_in_every_step_are_no_fall(seed, spread):
    draw = random.Random(seed)
    noisy = [[-200 + draw.gauss(0, spread) for _ in range(80)] for _ in range(2)]
    raised = [step for name, step in fired(pairs(*noisy)) if name == "logprobs_fall"]
    assert len(raised) <= 1, "one chance in many"


def test_both_falling_raises_one_alert():
    draw = random.Random(0)
    falling = [-200 - 2 * step + draw.gauss(0, 5) for step in range(80)]
    [(name, step)] = fired(pairs(falling, falling))
    assert name == "logprobs_fall"
    assert step == 2 * 25, "as soon as there are two windows"
    rising = [-200 + 2 * step for step in range(80)]
    assert fired(pairs(rising, falling)) == []


def test_on_held_out_rows_the_first_values_are_the_baseline():
    assert fired(pairs([-50, -50.5, -52, -53, -49, -53], [-60, -60.5, -70, -80, -80, -80], "eval")) == [
        ("logprobs_fall", 3),
        ("logprobs_fall", 6),
    ]


def stage_lines(stage, **series):
    """Lines of a stage; metrics with one value have it in every line."""
    count = max(len(values) for values in series.values() if isinstance(values, list))
    for step in range(count):
        metrics = {name: values[step] if isinstance(values, list) else values for name, values in series.items()}
        yield MetricsLine(stage, step + 1, {name.replace("__", "/"): value for name, value in metrics.items()})


def raised(series) -> list[AlertLine]:
    alerts = Alerts()
    return [alert for line in series for alert in alerts.observe(line)]


def test_equal_rewards_are_the_cause_of_skipped_steps():
    """The batches are told of once; their loss of 0 and their gradient of 0 are no further signs."""
    [alert] = raised(
        stage_lines(
            "rl",
            train__loss=[0.0] * 30,
            train__grad_norm=0.0,
            train__skipped=1.0,
            rollout__reward=1.0,
            rollout__equal_rewards=1.0,
        )
    )
    assert (alert.alert, alert.step) == ("equal_rewards", 3)
    assert "all responses to a prompt get the same reward" in alert.message


@pytest.mark.parametrize(
    ("stage", "more", "cause"),
    [
        ("rl", {"rollout__reward": 0.5, "rollout__equal_rewards": 0.2}, "no trained token has an advantage"),
        ("prefer", {}, "no token has a weight"),
        ("sft", {}, "no token has a weight"),
    ],
)
def test_skipped_steps_name_what_the_stage_has(stage, more, cause):
    alerts = raised(stage_lines(stage, train__loss=[0.0] * 5, train__grad_norm=0.0, train__skipped=1.0, **more))
    assert [(alert.alert, alert.step) for alert in alerts] == [("no_gradient", NO_GRADIENT)]
    assert cause in alerts[0].message
    assert "reward" not in alerts[0].message or stage == "rl"


@pytest.mark.parametrize("norm", [0.0, 0.5])
def test_equal_rewards_are_told_also_where_another_term_has_a_gradient(norm):
    """With kl_coef no step is skipped, and the loss changes; at first the policy is the reference."""
    [alert, *_] = raised(
        stage_lines(
            "rl",
            train__loss=[0.01 * step for step in range(30)],
            train__grad_norm=[norm] * 8 + [0.5] * 22,
            rollout__reward=0.0,
            rollout__reward_std=0.0,
            rollout__equal_rewards=[1.0] * 8 + [0.5] * 22,
        )
    )
    assert (alert.alert, alert.step) == ("equal_rewards", 3)


@pytest.mark.parametrize("loss", [0.0, 1e-9], ids=["exactly 0", "about 0"])
def test_the_loss_of_a_policy_gradient_says_nothing(loss):
    """Advantages cancel, so it is around 0, or exactly 0 for many steps, whatever is learned."""
    losses = [loss] * 60 + [0.02] * 60
    series = stage_lines(
        "rl", train__loss=losses, train__grad_norm=0.5, rollout__reward=0.4, rollout__equal_rewards=0.2
    )
    assert raised(series) == []


def test_steps_without_a_gradient_are_no_measure_of_spikes():
    """Their median would be 0."""
    norms = [0.0, 0.0, 1.0] * 40
    assert raised(stage_lines("rl", rollout__reward=0.4, train__loss=0.1, train__grad_norm=norms)) == []
    [alert] = raised(stage_lines("rl", rollout__reward=0.4, train__loss=0.1, train__grad_norm=[*norms, 30.0]))
    assert alert.alert == "gradient_spike"
    assert "responses" in alert.message


def test_responses_of_a_policy_have_no_baseline():
    """Longer responses have lower log-probabilities; online DPO has other pairs in every step."""
    falling = [-200.0 - 5 * step for step in range(80)]
    series = stage_lines("rl", rollout__reward=0.4, train__logprob_chosen=falling, train__logprob_rejected=falling)
    assert raised(series) == []


@pytest.mark.parametrize("reference", [True, False])
def test_a_fall_names_beta_only_where_a_reference_is(reference):
    falling = [-200.0 - 2 * step for step in range(80)]
    more = {"train__kl": 0.5} if reference else {}
    [alert] = raised(stage_lines("prefer", train__logprob_chosen=falling, train__logprob_rejected=falling, **more))
    assert ("raise beta" in alert.message) is reference


def test_a_hinge_that_all_rows_have_reached():
    [alert, *_] = raised(stage_lines("prefer", train__loss=[0.5, 0.0, 0.0, 0.0], train__grad_norm=[1.0, 0.0, 0.0, 0.0]))
    assert alert.step == 4
    assert "nothing is left to learn" in alert.message
    assert "trained weights" not in alert.message


HEALTHY = {
    "sft": {},
    "Distil": {"regression": 0.2},
    "prefer": {
        "pair_accuracy": 0.7,
        "reward_margin": 0.5,
        "kl": 0.4,
        "logprob_chosen": -40.0,
        "logprob_rejected": -60.0,
    },
    "reward": {"pair_accuracy": 0.7, "reward_margin": 0.5, "center": 0.01},
    "rl": {"clip_fraction": 0.01, "kl": 0.02},
}
"""Stage → metrics that only its steps have."""


@given(st.integers(0, 2**32))
@pytest.mark.parametrize("stage", HEALTHY)
def test_healthy_runs_of_every_stage_are_silent(stage, seed):
    """Noise of a tenth, with evaluations whose held-out loss falls."""
    draw = random.Random(seed)
    rollouts = {"reward": 0.4, "reward_std": 0.3, "equal_rewards": 0.3, "entropy": 1.0, "response_length": 50.0}
    alerts, found = Alerts(), []
    for step in range(1, 121):
        loss = draw.gauss(0, 0.01) if stage == "rl" else 1 + 2 * math.exp(-step / 40) + draw.gauss(0, 0.02)
        values = {"grad_norm": 1.0, **HEALTHY[stage]}
        noise = {name: 0.01 if name.startswith("logprob") else 0.1 for name in values}  # a fall of a nat is one
        metrics = {
            f"train/{name}": value * draw.uniform(1 - noise[name], 1 + noise[name]) for name, value in values.items()
        }
        if stage == "rl":
            metrics |= {f"rollout/{name}": value * draw.uniform(0.9, 1.1) for name, value in rollouts.items()}
        found += alerts.observe(MetricsLine(stage, step, {**metrics, "train/loss": loss, "train/learning_rate": 0.1}))
        if step % 20 == 0:
            held_out = 1.1 + 2 * math.exp(-step / 40) + draw.gauss(0, 0.002)
            name = "eval/reward" if stage == "rl" else "eval/loss"
            found += alerts.observe(MetricsLine(stage, step, {name: held_out}))
    assert found == []
