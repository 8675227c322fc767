"""When a stage ends early, by hand."""

import pytest
import torch

from burnish.errors import RunError
from burnish.train.early_stopping import EarlyStopping, put_in
from burnish.train.stop_rule import StopRule


def observed(rule: StopRule, *losses: float) -> EarlyStopping:
    stopping = EarlyStopping(rule)
    for number, loss in enumerate(losses):
        stopping.observe(10 * number, loss, [("w", torch.full((2,), loss))])
    return stopping


@pytest.mark.parametrize(
    ("losses", "over"),
    [
        ([3.0, 2.0, 1.0], False),
        ([3.0, 2.0, 2.5], False),
        ([3.0, 2.0, 2.5, 2.0], True),
        ([3.0, 2.0, 2.5, 1.9, 2.0], False),
        ([3.0, 3.0, 3.0], True),
    ],
)
def test_two_evaluations_without_improvement(losses, over):
    assert observed(StopRule(patience=2), *losses).over is over


def test_small_improvements_do_not_count_until_they_add_up():
    rule = StopRule(patience=2, min_delta=0.5)
    assert observed(rule, 3.0, 2.8, 2.6).over
    assert not observed(rule, 3.0, 2.8, 2.4, 2.3).over


def test_without_a_rule_it_never_ends():
    stopping = observed(StopRule(), 1.0, 2.0, 3.0, 4.0)
    assert not stopping.over
    assert stopping.reason() is None
    assert stopping.weights == {}
    assert stopping.summary(30) == {"steps": 30}


def test_the_reason_in_words():
    stopping = observed(StopRule(patience=1, min_delta=0.25), 3.0, 2.9)
    assert stopping.reason() == (
        "stopped after step 10: the held-out loss did not fall by more than 0.25 in 1 evaluation; "
        "the lowest was 2.9000, at step 10"
    )


def test_the_best_weights_are_kept_apart():
    weight = torch.zeros(2)
    stopping = EarlyStopping(StopRule(keep_best=True))
    for step, loss in enumerate([3.0, 1.0, 2.0]):
        weight.fill_(step)
        stopping.observe(step, loss, [("w", weight)])
    put_in(stopping.weights, [("w", weight), ("frozen", torch.ones(1))])
    assert weight.tolist() == [1, 1]
    assert stopping.summary(9)["best_step"] == 1


def test_what_rises_is_better_higher():
    rule = StopRule(patience=2, min_delta=0.1, keep_best=True, best_metric="reward", rises=True)
    assert not observed(rule, 0.1, 0.3, 0.35, 0.5).over
    stopping = observed(rule, 0.1, 0.5, 0.55, 0.45)
    assert stopping.over
    assert stopping.weights["w"].tolist() == [pytest.approx(0.55)] * 2
    assert stopping.reason() == (
        "stopped after step 30: the held-out reward did not rise by more than 0.1 in 2 evaluations; "
        "the highest was 0.5500, at step 20"
    )
    again = EarlyStopping(rule)
    again.load_state_dict(*stopping.state_dict())
    assert again.reason() == stopping.reason()


def test_an_evaluation_without_the_metric_is_refused():
    rule = StopRule(keep_best=True, best_metric="accuracy", rises=True)
    with pytest.raises(RunError, match="has reward/length, and no accuracy"):
        EarlyStopping(rule).evaluated(3, {"reward/length": 0.5}, [])
    EarlyStopping(StopRule(best_metric="accuracy")).evaluated(3, {"reward/length": 0.5}, [])
    kept = EarlyStopping(rule)
    kept.evaluated(3, {"accuracy": torch.tensor(0.5), "reward": 0.1}, [("w", torch.ones(1))])
    assert kept.summary(9)["best_step"] == 3


def test_an_alert_ends_it_and_is_remembered():
    stopping, again = EarlyStopping(StopRule(alerts=frozenset({"reward_hacking"}))), EarlyStopping()
    assert not stopping.over
    stopping.on_alert(7, "the reward rises while math falls")
    again.load_state_dict(*stopping.state_dict())
    for each in (stopping, again):
        assert each.over
        assert each.reason() == "stopped after step 7 by an alert: the reward rises while math falls"
        assert each.summary(30)["steps"] == 7
