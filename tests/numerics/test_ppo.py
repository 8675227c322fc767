"""The policy gradient with a critic against the exact gradient of an enumerated world, and its invariance.

A world of two tokens of a vocabulary of five: all 25 responses are known, and so is J = E[R − β Σ_t k1(y_t)] with its
gradient. A critic is any function of the state.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from burnish.credit.gae import Gae
from burnish.credit.settings import GaeSettings
from burnish.losses.policy.gradient import PolicyGradient
from burnish.losses.value import ValueLoss
from burnish.model.attention import install
from burnish.model.policy import Model
from burnish.optim.optimizer import Optimizer
from burnish.optim.settings import OptimizerSettings
from burnish.packing import count_denominators
from burnish.train.step import Trainer
from burnish.types import Group, Response
from tests.conftest import make_groups
from tests.families import FAMILIES, without_rounding

SIZE, BETA = 5, 0.3
RESPONSES = list(itertools.product(range(SIZE), repeat=2))


def table(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


FIRST, SECOND = table(0, SIZE).requires_grad_(), table(1, SIZE, SIZE).requires_grad_()
REFERENCE = table(2, SIZE), table(3, SIZE, SIZE)
REWARDS = table(4, SIZE, SIZE)
VALUES = table(5), table(6, SIZE)
"""A critic's values of the state before the first token, and before the second."""


def token_logprobs(first: Tensor, second: Tensor) -> Tensor:
    """[25, 2] log-probabilities of the tokens of all responses."""
    tokens = torch.tensor(RESPONSES)
    return torch.stack([first.log_softmax(0)[tokens[:, 0]], second.log_softmax(1)[tokens[:, 0], tokens[:, 1]]], dim=1)


def credited(settings: GaeSettings) -> Tensor:
    """[25, 2] advantages of all responses."""
    policy, reference = token_logprobs(FIRST, SECOND).detach(), token_logprobs(*REFERENCE)
    responses = [
        Response(
            tokens=torch.tensor(tokens),
            trainable=torch.ones(2, dtype=torch.bool),
            sampler_logprobs=policy[number],
            reference_logprobs=reference[number],
            values=torch.stack([VALUES[0], VALUES[1][tokens[0]]]),
        )
        for number, tokens in enumerate(RESPONSES)
    ]
    [[group]] = Gae(settings).assign([Group(prompt=torch.tensor([0]), responses=tuple(responses))], [REWARDS.flatten()])
    return torch.stack([each.advantages for each in group.responses]).double()


def gradient(advantages: Tensor) -> Tensor:
    """Σ_y π(y) Σ_t A_t ∇ log π(y_t)."""
    logprobs = token_logprobs(FIRST, SECOND)
    weights = logprobs.detach().sum(dim=1, keepdim=True).exp()
    parts = torch.autograd.grad((weights * advantages * logprobs).sum(), [FIRST, SECOND])
    return torch.cat([part.flatten() for part in parts])


def exact() -> Tensor:
    logprobs, reference = token_logprobs(FIRST, SECOND), token_logprobs(*REFERENCE)
    objective = REWARDS.flatten() - BETA * (logprobs - reference).sum(dim=1)
    parts = torch.autograd.grad((logprobs.sum(dim=1).exp() * objective).sum(), [FIRST, SECOND])
    return torch.cat([part.flatten() for part in parts])


SETTINGS = GaeSettings(gae_lambda=1.0, whiten_advantages=False, kl_coef=BETA)


def test_with_lambda_one_it_is_exact_for_any_critic():
    """Advantages are float32, as in every run."""
    assert torch.allclose(gradient(credited(SETTINGS)), exact(), rtol=0, atol=1e-6)


def test_with_a_smaller_lambda_a_wrong_critic_is_a_bias():
    assert not torch.allclose(gradient(credited(replace(SETTINGS, gae_lambda=0.5))), exact(), rtol=0, atol=1e-2)


def test_with_a_right_critic_it_is_exact_for_any_lambda(monkeypatch):
    """V(s) = E[the rewards that follow]: the temporal difference alone has the exact gradient."""
    first, second = FIRST.detach().log_softmax(0), SECOND.detach().log_softmax(1)
    apart = BETA * (second - REFERENCE[1].log_softmax(1))
    before_second = (second.exp() * (REWARDS - apart)).sum(dim=1)
    before_first = (first.exp() * (before_second - BETA * (first - REFERENCE[0].log_softmax(0)))).sum()
    monkeypatch.setattr("tests.numerics.test_ppo.VALUES", (before_first, before_second))
    for lam in (0.0, 0.5, 1.0):
        assert torch.allclose(gradient(credited(replace(SETTINGS, gae_lambda=lam))), exact(), rtol=0, atol=1e-6)


def rolled_out(seed: int) -> list[Group]:
    """Groups of several lengths with the streams of a batch of PPO."""
    generator = torch.Generator().manual_seed(seed)

    def filled(response: Response) -> Response:
        size = len(response.tokens)
        streams = torch.randn(4, size, dtype=torch.float64, generator=generator)
        names = ("advantages", "values", "returns", "sampler_logprobs")
        return replace(response, weights=None, **dict(zip(names, streams, strict=True)))

    groups = make_groups([(4, [5, 3]), (9, [2]), (3, [4, 4, 2]), (6, [1, 7])], seed, holes=True)
    return [replace(group, responses=tuple(map(filled, group.responses))) for group in groups]


@pytest.mark.parametrize("role", ["policy", "critic"])
def test_each_minibatch_is_the_same_however_it_is_packed(role, monkeypatch):
    """One microbatch or many, prompts shared or repeated, several groups or each alone: float64 gradients to 1e-10."""
    torch.manual_seed(0)
    model = FAMILIES["llama"]().double()
    without_rounding(model, monkeypatch)
    install(model)
    head = torch.nn.Linear(model.config.hidden_size, 1, bias=False, dtype=torch.float64)
    policy = Model(model, tokenizer=None, critic_head=head if role == "critic" else None)
    loss = ValueLoss(0.2) if role == "critic" else PolicyGradient(old_logprobs="sampler", entropy_coef=0.1)
    for groups in (rolled_out(0)[:2], rolled_out(0)[2:]):
        counts, found = count_denominators(groups), []
        expanded = [part for group in groups for part in group.expanded()]
        for given, budget in ((groups, 10**6), (groups, 13), (expanded, 10**6), (expanded, 9)):
            trainer = Trainer(policy, Optimizer(policy.trained_parameters(), OptimizerSettings(learning_rate=1.0)))
            trainer.accumulate(policy.pack(given, budget), loss, counts)
            gradients = (parameter.grad for _, parameter in policy.trained_parameters())
            found.append(torch.cat([each.flatten() for each in gradients if each is not None]))
            model.zero_grad()
            head.zero_grad()
        assert float(found[0].norm()) > 1e-3
        assert all(torch.allclose(found[0], other, rtol=0, atol=1e-10) for other in found[1:])
