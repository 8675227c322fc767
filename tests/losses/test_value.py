"""Value loss by hand and in its limits; the likelihood of right responses; a loss times a number."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from burnish.losses.cross_entropy import CrossEntropy
from burnish.losses.policy.gradient import PolicyGradient
from burnish.losses.policy.success_nll import WithSuccessNll
from burnish.losses.scaled import Scaled
from burnish.losses.value import ValueLoss
from burnish.packing import count_denominators, pack
from burnish.types import Denominator, Group, LossOutput, Microbatch, Response, Score, TokenScores

NEW = [1.0, 0.5, -1.0]
OLD = [0.0, 0.5, 0.0]
RETURNS = [2.0, 1.0, 1.0]


def microbatch(**streams: Tensor) -> Microbatch:
    """One response of three tokens."""
    trainable = torch.ones(3, dtype=torch.bool)
    ready = {name: stream.double() for name, stream in streams.items()}
    response = Response(tokens=torch.arange(3), trainable=trainable, **ready)
    return pack([Group(prompt=torch.tensor([0]), responses=(response,))], 100)[0]


def valued(loss: ValueLoss) -> tuple[float, Tensor, LossOutput]:
    values = torch.tensor(NEW, dtype=torch.float64, requires_grad=True)
    given = microbatch(values=torch.tensor(OLD), returns=torch.tensor(RETURNS))
    output = loss(TokenScores(state_value=values), given)
    total = output.terms["value"].total
    return float(total.detach()), torch.autograd.grad(total, values)[0], output


def test_the_plain_loss_by_hand():
    total, gradient, output = valued(ValueLoss())
    assert total == pytest.approx((1 + 0.25 + 4) / 2)
    assert gradient.tolist() == [-1.0, -0.5, -2.0]
    assert output.terms["value"].denominator is Denominator.TOKENS


def test_the_clipped_loss_by_hand():
    """ε = 0.5. The first value moved from 0 to 1: at 0.5 its error is 1.5² > 1², so it has no gradient. The last moved
    away from its return: its own error 2² is larger than that of −0.5, so it has a gradient."""
    total, gradient, output = valued(ValueLoss(value_clip=0.5))
    assert total == pytest.approx((1.5**2 + 0.25 + 4) / 2)
    assert gradient.tolist() == [0.0, -0.5, -2.0]
    assert float(output.metrics["value_clip_fraction"].total) == 1


def test_a_wide_clip_is_no_clip_and_unmoved_values_are_not_clipped():
    assert valued(ValueLoss(value_clip=1e6))[0] == valued(ValueLoss())[0]
    given = microbatch(values=torch.tensor(NEW), returns=torch.tensor(RETURNS))
    values = torch.tensor(NEW, dtype=torch.float64, requires_grad=True)
    gradients = [
        torch.autograd.grad(loss(TokenScores(state_value=values), given).terms["value"].total, values)[0]
        for loss in (ValueLoss(), ValueLoss(value_clip=0.01))
    ]
    assert torch.allclose(*gradients)


def test_a_critic_always_learns():
    """Weights belong to the policy's loss."""
    response = Response(tokens=torch.tensor([1]), trainable=torch.tensor([True]), weights=torch.zeros(1))
    assert ValueLoss().has_signal([Group(prompt=torch.tensor([0]), responses=(response,))])


def responses() -> list[Group]:
    """A right response of two tokens, a wrong one of three."""
    made = [
        Response(
            tokens=torch.arange(size),
            trainable=torch.ones(size, dtype=torch.bool),
            weights=torch.full((size,), weight),
            advantages=torch.zeros(size),
            sampler_logprobs=torch.full((size,), -1.0),
        )
        for size, weight in ((2, 1.0), (3, 0.0))
    ]
    return [Group(prompt=torch.tensor([0]), responses=tuple(made))]


def test_the_likelihood_is_the_mean_over_tokens_of_right_responses():
    groups, loss = responses(), WithSuccessNll(PolicyGradient(old_logprobs="sampler"), 0.1)
    [given] = pack(groups, 100)
    logprobs = torch.tensor([-1.0, -3.0, -5.0, -7.0, -9.0], dtype=torch.float64)
    term = loss(TokenScores(logprob=logprobs), given).terms["success_nll"]
    assert term.denominator is Denominator.WEIGHT
    assert count_denominators(groups)[Denominator.WEIGHT] == 2
    assert float(term.total) == pytest.approx(0.1 * (1 + 3))


def test_right_responses_are_a_signal_without_advantages():
    loss = WithSuccessNll(PolicyGradient(old_logprobs="sampler"), 0.1)
    [group] = responses()
    wrong = replace(group, responses=group.responses[1:])
    assert loss.has_signal([group])
    assert not loss.has_signal([wrong])


def test_a_scaled_loss_is_the_loss_times_a_number():
    groups = responses()
    [given] = pack(groups, 100)
    scores = TokenScores(logprob=torch.tensor([-1.0, -3.0, -5.0, -7.0, -9.0], dtype=torch.float64))
    plain, scaled = CrossEntropy(), Scaled(CrossEntropy(), 2.5)
    [term], [other] = plain(scores, given).terms.values(), scaled(scores, given).terms.values()
    assert float(other.total) == pytest.approx(2.5 * float(term.total))
    counts = count_denominators(groups)
    known, ours = plain.score_gradients(given, counts), scaled.score_gradients(given, counts)
    assert torch.allclose(ours[Score.LOGPROB], 2.5 * known[Score.LOGPROB])
