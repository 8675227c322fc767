"""Losses of reward models on given values: by hand, and in limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from burnish.losses.base import Loss
from burnish.losses.reward.bradley_terry import BradleyTerry
from burnish.losses.reward.ranked import RankedValues
from burnish.losses.reward.regression import Regression
from burnish.packing import count_denominators
from burnish.train.step import differentiate, sum_terms
from burnish.types import Group, Response, TokenScores
from tests.preferences import in_one


def group(*scores: float | None) -> Group:
    """Responses of one token, with these scores in the data."""
    one = torch.tensor([5])
    return Group(
        prompt=torch.tensor([7]),
        responses=tuple(Response(tokens=one, trainable=one > 0, reward=score) for score in scores),
    )


def function(loss: Loss, groups: Sequence[Group]) -> Callable[[Tensor], Tensor]:
    microbatch, counts = in_one(groups), count_denominators(groups)
    return lambda values: sum_terms(loss(TokenScores(value=values), microbatch), counts)


def value(loss: Loss, groups: Sequence[Group], *values: float) -> float:
    return float(function(loss, groups)(torch.tensor(values, dtype=torch.float64)))


def figures(loss: Loss, groups: Sequence[Group], *values: float) -> dict[str, float]:
    scores = TokenScores(value=torch.tensor(values, dtype=torch.float64))
    sums, _ = differentiate(scores, in_one(groups), loss, count_denominators(groups))
    return {name: float(figure) for name, figure in sums.items()}


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_bradley_terry_by_hand():
    """Differences of 2 and −1: costs log(1 + e^−2) and log(1 + e)."""
    assert value(BradleyTerry(), [group(1, 0), group(1, 0)], 3, 1, 0, 1) == pytest.approx(
        (softplus(-2) + softplus(1)) / 2, rel=1e-12
    )


def test_margins_by_hand():
    """Scores 4 and 1 at μ = 0.5 make a margin of 1.5; scores of 1 and 0 one of 0.5."""
    found = value(BradleyTerry(margin=0.5), [group(4, 1), group(1, 0)], 3, 1, 0, 1)
    assert found == pytest.approx((softplus(-0.5) + softplus(1.5)) / 2, rel=1e-12)


def test_centring_by_hand():
    """(3 + 1)² and (0 + 1)², a hundredth of their mean."""
    found = figures(BradleyTerry(center_coef=0.01), [group(1, 0), group(1, 0)], 3, 1, 0, 1)
    assert found["center"] == pytest.approx(0.085, rel=1e-12)
    assert found["loss"] == pytest.approx(found["center"] + found["preference"], rel=1e-12)


def test_what_is_watched():
    found = figures(BradleyTerry(), [group(1, 0), group(1, 0)], 3, 1, 2, 2)
    wanted = {"reward_chosen": 2.5, "reward_rejected": 1.5, "reward_margin": 1.0, "pair_accuracy": 0.75}
    assert {name: found[name] for name in wanted} == pytest.approx(wanted)


def test_a_ranking_by_hand():
    """e³ before e¹ before e⁰: the best of three, then the better of two."""
    first = math.log(math.exp(3) + math.exp(1) + 1) - 3
    assert value(RankedValues(), [group(2, 1, 0)], 3, 1, 0) == pytest.approx(first + softplus(-1), rel=1e-12)


def test_a_ranking_of_two_is_bradley_terry():
    groups, values = [group(1, 0), group(1, 0)], (3, 1, 0, 1)
    assert value(RankedValues(), groups, *values) == pytest.approx(value(BradleyTerry(), groups, *values), rel=1e-12)


def test_equal_rewards_cost_a_coin():
    assert value(BradleyTerry(), [group(1, 0)], 0.3, 0.3) == pytest.approx(math.log(2), rel=1e-12)


def test_a_constant_changes_nothing_but_the_centring():
    groups = [group(1, 0), group(1, 0)]
    for loss, same in (
        (BradleyTerry(margin=0.3), True),
        (RankedValues(), True),
        (BradleyTerry(center_coef=0.1), False),
    ):
        found = value(loss, groups, 3, 1, 0, 1) == pytest.approx(value(loss, groups, 8, 6, 5, 6), rel=1e-12)
        assert found == same


def test_regression_by_hand():
    """Off by 1, 0.5 and −2: the mean of their squares, whichever responses share a prompt."""
    values = (2, 1.5, -2)
    assert value(Regression(), [group(1, 1), group(0)], *values) == pytest.approx((1 + 0.25 + 4) / 3, rel=1e-12)
    assert figures(Regression(), [group(1, 1), group(0)], *values)["absolute_error"] == pytest.approx(3.5 / 3)


def test_regression_needs_scores():
    with pytest.raises(RuntimeError, match="every response has a score"):
        value(Regression(), [group(1, None)], 2, 1)
