"""What preference losses hold constant in their gradients, by hand. The suite of losses has numeric gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from burnish.losses.preference.absolute import Bco, ShiftedBco
from burnish.losses.preference.build import preference_loss
from burnish.losses.preference.dynamic_beta import DynamicBeta
from burnish.losses.preference.logistic import Logistic
from tests.preferences import as_function, compared, in_one


def given(name: str, options: dict[str, object]) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The loss as a function of log-probabilities, and some."""
    preference = preference_loss(name, **options)
    groups = compared(preference.data)
    size = len(in_one(groups).predictor_positions)
    generator = torch.Generator().manual_seed(3)
    logprob = -2 * torch.rand(size, dtype=torch.float64, generator=generator) - 0.1
    collision = -torch.rand(size, dtype=torch.float64, generator=generator)
    function = as_function(preference.loss, groups)
    return lambda row: function(row, collision), logprob.requires_grad_()


def slopes(contrast: Callable[[Tensor, Tensor], Tensor], chosen: Tensor, rejected: Tensor) -> Tensor:
    return torch.cat(torch.autograd.grad(contrast(chosen, rejected).sum(), [chosen, rejected]))


@pytest.fixture
def rewards() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return tuple(torch.randn(5, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2))


def test_the_mean_margin_of_beta_dpo_is_a_constant(rewards):
    factor = 1 + 0.6 * (float((rewards[0] - rewards[1]).mean().detach()) - 0.2)
    wanted = slopes(lambda c, r: Logistic()(factor * c, factor * r), *rewards)
    assert torch.allclose(slopes(DynamicBeta(0.6, 0.2), *rewards), wanted, rtol=1e-12)


def test_a_negative_beta_is_held_above_zero(rewards):
    chosen, rejected = rewards
    assert torch.equal(DynamicBeta(10.0, 50.0)(chosen, rejected), Logistic()(1e-3 * chosen, 1e-3 * rejected))


def test_the_shift_of_bco_is_a_constant(rewards):
    shift = float(0.5 * (rewards[0].mean() + rewards[1].mean()).detach())
    wanted = slopes(lambda c, r: Bco()(c - shift, r - shift), *rewards)
    assert torch.allclose(slopes(ShiftedBco(), *rewards), wanted, rtol=1e-12)


def test_the_weight_of_a_pair_is_a_constant():
    """The gradient of a weighted pair is its weight times the gradient of the pair."""
    function, logprob = given("dpo", {"wpo": True})
    plain, _ = given("dpo", {})
    groups = compared(preference_loss("dpo").data)
    [weighted], [unweighted] = (torch.autograd.grad(f(logprob), logprob) for f in (function, plain))
    ratio, sequence = weighted / unweighted, in_one(groups).sequence
    for group in range(len(groups)):
        tokens = ratio[in_one(groups).sequence_group[sequence] == group]
        assert torch.allclose(tokens, tokens[:1].expand_as(tokens), rtol=1e-10)
    assert ratio.std() > 0
