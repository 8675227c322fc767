"""An entropy that is held: the rule by hand, its limits, and that the loss is the one that it has become."""

import math
from dataclasses import replace

import pytest
import torch

from burnish.losses.base import AdaptiveLoss
from burnish.losses.policy.entropy import EntropyControl
from burnish.losses.policy.gradient import PolicyGradient
from burnish.packing import count_denominators, pack
from burnish.types import Score, TokenScores
from tests.conftest import make_groups


def control(**changes: float) -> EntropyControl:
    settings = {"entropy_target": 1.0, "entropy_coef_lr": 0.1, "entropy_coef_max": 0.25} | changes
    first = settings.pop("first", 0.05)
    return EntropyControl(PolicyGradient(entropy_coef=first), **settings)


def measured(loss: EntropyControl, *entropies: float) -> list[float]:
    """The weights of the steps that measured these entropies."""
    return [loss.observe({"policy_entropy": torch.tensor(each)})["entropy_weight"] for each in entropies]


def test_the_weight_moves_by_what_is_missing_and_stays_within_its_bounds():
    loss = control()
    assert measured(loss, 0.5, 3.0, 1.0, -9.0, 0.0) == pytest.approx([0.05, 0.1, 0.0, 0.0, 0.25])
    assert loss.weight == 0.25


def test_at_the_target_it_rests():
    loss = control(first=0.125)
    assert measured(loss, *[1.0] * 4) == [0.125] * 4


def test_it_finds_the_weight_that_holds_the_entropy():
    """A policy whose entropy answers to the weight, 0.4 + 8 c: c comes to rest at 0.075."""
    loss = control(first=0.0)
    for _ in range(60):
        loss.observe({"policy_entropy": torch.tensor(0.4 + 8 * loss.weight)})
    assert math.isclose(loss.weight, 0.075, rel_tol=1e-3)


def test_what_is_remembered_goes_on():
    first, again = control(), control()
    measured(first, 0.2, 0.7)
    again.load_state_dict(*first.state_dict())
    assert again.weight == first.weight
    assert measured(first, 0.3, 0.4) == measured(again, 0.3, 0.4)
    assert isinstance(first, AdaptiveLoss)


@pytest.mark.parametrize("weight", [0.0, 0.2])
def test_the_loss_is_that_of_its_weight_and_the_entropy_is_measured(weight):
    groups = [_credited(group) for group in make_groups([(3, [4, 2])])]
    [microbatch] = pack(groups, 100)
    size = len(microbatch.predictor_positions)
    generator = torch.Generator().manual_seed(0)
    leaves = [torch.randn(size, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2)]
    scores = TokenScores(logprob=leaves[0], entropy=leaves[1])
    held, plain = control(first=weight), PolicyGradient(entropy_coef=weight)
    assert set(held.needs) == {Score.LOGPROB, Score.ENTROPY}
    counts = count_denominators(groups)
    found, expected = (
        sum(term.total / counts[term.denominator] for term in loss(scores, microbatch).terms.values())
        for loss in (held, plain)
    )
    one, other = (torch.autograd.grad(each, leaves, allow_unused=True) for each in (found, expected))
    assert one[0].equal(other[0])
    assert (one[1] is None and other[1] is None) or one[1].equal(other[1])
    watched = held(scores, microbatch).metrics["policy_entropy"]
    assert math.isclose(float(watched.total / counts[watched.denominator]), float(leaves[1].detach().mean()))
    assert held.score_gradients(microbatch, counts) is None


def _credited(group):
    responses = tuple(replace(each, advantages=torch.ones(len(each.tokens))) for each in group.responses)
    return replace(group, responses=responses)
