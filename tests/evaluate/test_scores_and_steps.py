"""What is measured of several scores and of steps, by hand, and that it is found in packed groups."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from burnish.builtin.tiny import write_untrained
from burnish.evaluate.preference_eval import wilson_interval
from burnish.evaluate.scores_and_steps import (
    ScoresEval,
    ScoresResult,
    StepsEval,
    StepsResult,
    correlation,
    evaluate_scores,
    evaluate_steps,
)
from burnish.model.load import load_policy
from burnish.model.settings import ValueHeadConfig
from burnish.packing import pack_singly
from burnish.sources.value_targets import value_target_at_end, value_targets_at_steps
from burnish.types import Score
from tests.conftest import make_groups


def steps_result(values: list[list[float]], labels: list[list[float]]) -> StepsResult:
    return StepsResult([np.array(each) for each in values], [np.array(each) for each in labels], 0.0)


def test_first_errors_by_hand():
    """Found; found too early; found too late; none there, none found; none there, one found."""
    labels = [[1, 0, 1], [1, 0], [0, 0], [1, 1], [1]]
    values = [[2, -1, 1], [-1, -1], [1, -1], [1, 1], [-1]]
    found = steps_result(values, labels).figures()
    assert found["step_accuracy"] == pytest.approx((3 + 1 + 1 + 2 + 0) / 10)
    assert found["first_error_accuracy"] == pytest.approx(2 / 5)
    assert found["first_error_accuracy_if_wrong"] == pytest.approx(1 / 3)
    assert found["first_error_accuracy_if_right"] == pytest.approx(1 / 2)
    assert found["first_error_f1"] == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))
    assert found["first_error_accuracy_low"] == pytest.approx(wilson_interval(2, 5).low)


def test_responses_of_one_kind_have_no_f1():
    assert "first_error_f1" not in steps_result([[1.0]], [[1.0]]).figures()
    assert steps_result([[1.0], [1.0]], [[1.0], [0.0]]).figures()["first_error_f1"] == 0
    assert steps_result([], []).figures() == {}


def test_a_correlation_by_hand():
    """Fisher's interval of r = 0.8 with four points: tanh(artanh 0.8 ± 1.96)."""
    found = correlation(np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4]))
    assert found is not None
    assert found.value == pytest.approx(0.8)
    assert [found.low, found.high] == pytest.approx([math.tanh(math.atanh(0.8) + s * 1.959964) for s in (-1, 1)])
    assert correlation(np.ones(5), np.arange(5.0)) is None
    assert correlation(np.arange(3.0), np.arange(3.0)) is None


def test_scores_by_hand():
    values, given = np.array([[1.0, 0], [2, 0], [3, 0], [5, 0]]), np.array([[1.0, 1], [2, 1], [3, 2], [4, 2]])
    found = ScoresResult(("helpful", "short"), values, given).figures()
    assert found["absolute_error_of_helpful"] == pytest.approx(0.25)
    assert found["absolute_error_of_short"] == pytest.approx(1.5)
    assert found["correlation_of_helpful"] == pytest.approx(6.5 / math.sqrt(8.75 * 5))
    assert found["correlation_of_helpful_low"] < found["correlation_of_helpful"] < found["correlation_of_helpful_high"]
    assert "correlation_of_short" not in found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("reward_model")
    write_untrained(folder, hidden_size=32, layers=1)
    return str(folder)


def test_packed_groups_are_scored_as_single_answers(place: str):
    """Both evaluators, in the order of the rows, also where packing has another one."""
    groups = make_groups([(4, [5]), (9, [4]), (3, [8]), (6, [2])])
    generator = torch.Generator().manual_seed(1)
    scores = model = load_policy(
        place, head_config=ValueHeadConfig(outputs=2, names=("a", "b")), add_tokens=["<|pad|>"]
    )
    rows = [
        value_target_at_end(replace(g, responses=tuple(replace(r, scores=(float(i), 1.0)) for r in g.responses)))
        for i, g in enumerate(groups)
    ]
    found = evaluate_scores(scores, rows, ("a", "b"), 16)
    alone = torch.cat([model.score(m, [Score.VALUE]).of(Score.VALUE) for m in pack_singly(rows)])
    assert found.labels[:, 0].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert found.values == pytest.approx(alone.detach().double().numpy(), abs=1e-5)
    assert ScoresEval(rows, ("a", "b"), 16).evaluate(model).figures == found.figures()
    model = load_policy(place, head_config=ValueHeadConfig(judged="step"), add_tokens=["<|pad|>"])
    made = []
    for group in groups:
        [response] = group.responses
        labels = torch.rand(len(response.tokens), generator=generator).round()
        labels[:-1:2] = math.nan
        made.append(value_targets_at_steps(replace(group, responses=(replace(response, step_labels=labels),))))
    steps = evaluate_steps(model, made, 16, 0.0)
    singly = [model.score(m, [Score.VALUE]).of(Score.VALUE).detach().numpy() for m in pack_singly(made)]
    for one, other, group in zip(steps.values, singly, made, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
        assert len(one) == int(group.responses[0].trainable.sum())
    assert StepsEval(made, 16, 0.0).evaluate(model).figures == steps.figures()
