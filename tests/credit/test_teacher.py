"""Credit from a teacher: by hand, the expectation of the sampled gradient, and an estimator that learns nothing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from burnish.credit.teacher import TeacherCredit, sampled_kl, teacher_log_ratios
from burnish.losses.policy.gradient import PolicyGradient
from burnish.packing import count_denominators, pack
from burnish.train.step import sum_terms
from burnish.types import Group, Response, TokenScores

NAN = math.nan
V = 6


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def response(student: list[float], teacher: list[float], **others: object) -> Response:
    size = len(student)
    return Response(
        tokens=torch.arange(size),
        trainable=torch.ones(size, dtype=torch.bool),
        sampler_logprobs=tensor(*student),
        teacher_logprobs=tensor(*teacher),
        **others,  # type: ignore[arg-type]
    )


def credited(rule: TeacherCredit, responses: list[Response], rewards: Tensor) -> list[Tensor]:
    [(group,)] = rule.assign([Group(prompt=torch.tensor([0]), responses=tuple(responses))], [rewards])
    return [each.advantages for each in group.responses]


def test_by_hand():
    """A = 0.5 (R − mean) − 2 (log π_S − log π_T)."""
    two = [response([-1.0, -2.0], [-1.5, -1.0]), response([-3.0], [-1.0])]
    first, second = credited(TeacherCredit(2.0, 0.5), two, tensor(1, 0))
    assert first.tolist() == [0.25 - 1.0, 0.25 + 2.0]
    assert second.tolist() == [-0.25 + 4.0]


def test_a_response_without_a_reward_keeps_the_teachers_part():
    two = [response([-1.0], [-1.5]), response([-3.0], [-1.0])]
    first, second = credited(TeacherCredit(1.0, 0.5), two, tensor(NAN, 3))
    assert (first.tolist(), second.tolist()) == ([-0.5], [2.0])


def test_without_rewards_nothing_is_compared():
    [only] = credited(TeacherCredit(1.0), [response([-1.0], [-1.0])], tensor(NAN))
    assert only.tolist() == [0.0]
    group = Group(prompt=torch.tensor([0]), responses=(response([-1.0], [-1.5]),))
    [(same,)] = TeacherCredit(0.0, 0.0).assign([group], [tensor(NAN)])
    assert same is group


def test_runs_of_tokens_share_their_log_ratio():
    """Tokens 0 and 1 span the bytes of one run, token 2 is in none, token 3 is a run of its own."""
    groups = torch.tensor([1, 1, 0, 2])
    one = response([-1.0, -2.0, -5.0, -1.0], [0.0, -2.5, 0.0, -3.0], byte_groups=groups)
    assert teacher_log_ratios(one).tolist() == [-0.5, -0.5, 0.0, 2.0]
    assert sampled_kl([one]) == (1.5, 4)


def test_runs_of_one_token_are_the_standard_form():
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.rand(2, 5, generator=generator).double().neg().tolist()
    plain = response(student, teacher)
    runs = response(student, teacher, byte_groups=torch.arange(1, 6))
    assert torch.equal(teacher_log_ratios(plain), teacher_log_ratios(runs))
    assert sampled_kl([plain]) == sampled_kl([runs])


def test_tokens_that_are_not_trained_have_no_ratio():
    masked = Response(
        tokens=torch.arange(2),
        trainable=torch.tensor([True, False]),
        sampler_logprobs=tensor(-1, -9),
        teacher_logprobs=tensor(-2, 0),
    )
    assert teacher_log_ratios(masked).tolist() == [1.0, 0.0]
    assert sampled_kl([masked]) == (1.0, 1)


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(V, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()


@pytest.fixture
def teacher() -> Tensor:
    drawn = torch.randn(V, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return torch.log_softmax(2 * drawn, dim=0)


def expected_gradient(logits: Tensor, teacher: Tensor, coef: float) -> Tensor:
    """Σ_y π(y) of the gradient of the stage's own loss on the sampled token y: credit, packing and policy gradient."""
    total = torch.zeros(V, dtype=torch.float64)
    probabilities = torch.softmax(logits.detach(), dim=0)
    for token in range(V):
        logprobs = torch.log_softmax(logits, dim=0)
        sampled = Response(
            tokens=torch.tensor([token]),
            trainable=torch.tensor([True]),
            sampler_logprobs=logprobs[token : token + 1].detach(),
            teacher_logprobs=teacher[token : token + 1],
        )
        [(group,)] = TeacherCredit(coef).assign([Group(prompt=torch.tensor([0]), responses=(sampled,))], [tensor(NAN)])
        [microbatch] = pack([group], 10)
        output = PolicyGradient()(TokenScores(logprob=logprobs[token : token + 1]), microbatch)
        value = sum_terms(output, count_denominators([group]))
        total += probabilities[token] * torch.autograd.grad(value, logits)[0]
    return total


def exact_kl_gradient(logits: Tensor, teacher: Tensor) -> Tensor:
    logprobs = torch.log_softmax(logits, dim=0)
    return torch.autograd.grad((logprobs.exp() * (logprobs - teacher)).sum(), logits)[0]


@pytest.mark.parametrize("coef", [1.0, 0.3])
def test_the_expectation_is_the_exact_gradient_of_the_reverse_kl(logits, teacher, coef):
    exact = exact_kl_gradient(logits, teacher)
    assert exact.abs().max() > 0.1
    found = expected_gradient(logits, teacher, coef)
    assert torch.allclose(found, coef * exact, atol=1e-6)  # advantages are float32


def test_the_trap_differentiating_the_log_ratio_learns_nothing(logits, teacher):
    """E[∇ (log π_S(y) − log π_T(y))] = E[∇ log π_S(y)] = 0 for any teacher, where the stage's own loss learns."""
    logprobs = torch.log_softmax(logits, dim=0)
    trap = (logprobs.exp().detach() * (logprobs - teacher)).sum()
    assert torch.allclose(torch.autograd.grad(trap, logits)[0], torch.zeros(V, dtype=torch.float64), atol=1e-15)
    assert expected_gradient(logits, teacher, 1.0).abs().max() > 0.1
