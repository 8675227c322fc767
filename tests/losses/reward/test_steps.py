"""Losses of steps and of several scores on given values: by hand, and in limits."""

from __future__ import annotations

import math

import pytest
import torch

from burnish.losses.base import Loss
from burnish.losses.reward.regression import Regression
from burnish.losses.reward.steps import StepCrossEntropy, StepRegression
from burnish.packing import count_denominators
from burnish.sources.value_targets import value_target_at_end, value_targets_at_steps
from burnish.train.step import differentiate, sum_terms
from burnish.types import Group, Response, TokenScores
from tests.preferences import in_one

NAN = math.nan


def stepped(*labels: float) -> Response:
    tokens = torch.arange(len(labels)) + 5
    return Response(tokens=tokens, trainable=tokens > 0, step_labels=torch.tensor(labels))


def steps(*responses: Response) -> Group:
    return value_targets_at_steps(Group(prompt=torch.tensor([7]), responses=responses))


def scored(*scores: tuple[float, ...]) -> Group:
    one = torch.tensor([5])
    responses = tuple(Response(tokens=one, trainable=one > 0, scores=each) for each in scores)
    return value_target_at_end(Group(prompt=torch.tensor([7]), responses=responses))


def figures(loss: Loss, groups: list[Group], values: object) -> dict[str, float]:
    scores = TokenScores(value=torch.tensor(values, dtype=torch.float64))
    sums, _ = differentiate(scores, in_one(groups), loss, count_denominators(groups))
    return {name: float(figure) for name, figure in sums.items()}


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


STEPS = [steps(stepped(NAN, 1.0, NAN, 0.0)), steps(stepped(0.25))]
"""Three steps: a right one, a wrong one, and one of which a quarter is right; two tokens that end none."""


def test_only_the_ends_of_steps_are_scored():
    assert [group.responses[0].trainable.tolist() for group in STEPS] == [[False, True, False, True], [True]]
    assert in_one(STEPS).step_labels.tolist() == [1.0, 0.0, 0.25]


def test_cross_entropy_by_hand():
    found = figures(StepCrossEntropy(), STEPS, [2.0, 1.0, -1.0])
    assert found["loss"] == pytest.approx((softplus(-2) + softplus(1) + softplus(-1) + 0.25) / 3, rel=1e-12)
    assert found["step_accuracy"] == pytest.approx(2 / 3)


def test_regression_of_steps_by_hand():
    found = figures(StepRegression(), STEPS, [2.0, 1.0, -1.0])
    assert found["loss"] == pytest.approx((1 + 1 + 1.25**2) / 3, rel=1e-12)
    assert found["absolute_error"] == pytest.approx((1 + 1 + 1.25) / 3)


def test_an_unknowing_judge_costs_a_coin():
    assert figures(StepCrossEntropy(), STEPS, [0.0, 0.0, 0.0])["loss"] == pytest.approx(math.log(2), rel=1e-12)


def test_the_best_value_is_the_logit_of_the_label():
    value = torch.tensor([math.log(0.25 / 0.75)], dtype=torch.float64, requires_grad=True)
    total = sum_terms(StepCrossEntropy()(TokenScores(value=value), in_one(STEPS[1:])), count_denominators(STEPS[1:]))
    assert torch.autograd.grad(total, value)[0].abs() < 1e-12


def test_a_label_that_is_no_probability():
    with pytest.raises(RuntimeError, match="a label is a probability"):
        figures(StepCrossEntropy(), [steps(stepped(2.0))], [0.0])
    assert figures(StepRegression(), [steps(stepped(2.0))], [0.0])["loss"] == pytest.approx(4.0)


def test_several_scores_by_hand():
    """The mean over scores, then over responses, whichever share a prompt."""
    groups = [scored((1.0, 4.0), (2.0, 2.0)), scored((0.0, 0.0))]
    found = figures(Regression(), groups, [[1.0, 2.0], [0.0, 3.0], [0.0, 0.0]])
    assert found["loss"] == pytest.approx((4 / 2 + (4 + 1) / 2) / 3, rel=1e-12)
    assert found["absolute_error"] == pytest.approx((2 / 2 + 3 / 2) / 3)


def test_several_equal_scores_are_one():
    several = figures(Regression(), [scored((1.0, 1.0)), scored((3.0, 3.0))], [[0.5, 0.5], [2.0, 2.0]])
    one = figures(Regression(), [scored((1.0,)), scored((3.0,))], [0.5, 2.0])
    assert several == pytest.approx(one, rel=1e-12)


def test_as_many_outputs_as_scores():
    with pytest.raises(AssertionError, match="an output for each score"):
        figures(Regression(), [scored((1.0, 4.0))], [0.5])
