"""Divergences of student and teacher beside TRL 1.16: the same values and gradients, from the same logits.

With the student's p, the teacher's q, both of logits divided by the temperature T, and the mixture m = (1 − β) p + β q:

    β = 0            forward KL    Σ q (log q − log p)
    β = 1            reverse KL    Σ p (log p − log q)
    between          JSD           β Σ q (log q − log m) + (1 − β) Σ p (log p − log m)

The derivative by a student's logit is that of the divergence by p in the softmax's direction, p (g − Σ p g) / T, with

    β = 0            g = − q / p, so that it is (p − q) / T
    β = 1            g = log p − log q
    between          g = (1 − β) (log p − log m)

TRL has them twice: GKDTrainer from whole logits, in their type; DistillationTrainer from hidden states, in float32.
JSD is not the KL at its ends: it vanishes there, like β (1 − β), and β = 0 and β = 1 are set apart.
"""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch import Tensor
from trl import DistillationConfig, DistillationTrainer
from trl.experimental.gkd import GKDTrainer
from trl.trainer.distillation_trainer import _chunked_divergence_loss

from burnish.losses.distillation.settings import DivergenceOptions
from burnish.model.divergence import FullVocabulary
from burnish.model.head import Head
from burnish.streams import Streams

pytestmark = pytest.mark.slow

BETAS = (0.0, 0.1, 0.5, 0.9, 1.0)
TEMPERATURES = (1.0, 2.0)
ROWS, TOKENS, VOCABULARY = 2, 5, 17
WIDTHS = (6, 9)
"""Of the hidden states of student and teacher."""
MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
"""[B, T] trained tokens."""

both = pytest.mark.parametrize(("beta", "temperature"), [(b, t) for b in BETAS for t in TEMPERATURES])


def given_logits() -> tuple[Tensor, Tensor]:
    """[B, T, V] of student and teacher, float64; apart by some nats, some tokens almost impossible for one of them."""
    generator = torch.Generator().manual_seed(0)
    size = (ROWS, TOKENS, VOCABULARY)
    student, teacher = (3.0 * torch.randn(size, generator=generator, dtype=torch.float64) for _ in range(2))
    student[..., 0] -= 30.0
    teacher[..., 1] -= 30.0
    return student, teacher


def closed(student: Tensor, teacher: Tensor, beta: float, temperature: float) -> tuple[Tensor, Tensor]:
    """[B, T] divergences, and [B, T, V] their derivatives by the student's logits, by the formulas above."""
    own, other = (scores.div(temperature).log_softmax(-1) for scores in (student, teacher))
    p, q = own.exp(), other.exp()
    if beta == 0.0:
        return (q * (other - own)).sum(-1), (p - q) / temperature
    if beta == 1.0:
        value, g = (p * (own - other)).sum(-1), own - other
    else:
        mixture = ((1 - beta) * p + beta * q).log()
        value = beta * (q * (other - mixture)).sum(-1) + (1 - beta) * (p * (own - mixture)).sum(-1)
        g = (1 - beta) * (own - mixture)
    return value, p * (g - (p * g).sum(-1, keepdim=True)) / temperature


@both
def test_whole_logits(beta, temperature):
    """GKDTrainer's, in float64. Its value is a mean over trained tokens."""
    student, teacher = given_logits()
    labels = torch.where(MASK, 0, -100)
    scores = student.clone().requires_grad_()
    loss = GKDTrainer.generalized_jsd_loss(scores, teacher, labels, beta, temperature)
    loss.backward()
    value, gradient = closed(student, teacher, beta, temperature)
    torch.testing.assert_close(loss.detach(), value[MASK].mean(), rtol=1e-10, atol=0)
    torch.testing.assert_close(scores.grad, gradient * MASK[..., None] / MASK.sum(), rtol=1e-7, atol=1e-12)


@both
def test_ours_are_those_of_trl(beta, temperature):
    """`model.divergence`, in float64: the same mean over trained tokens, and the same gradient of the logits."""
    student, teacher = given_logits()
    kind = {0.0: "forward_kl", 1.0: "reverse_kl"}.get(beta, "jsd")
    options = DivergenceOptions(kind, "full", beta if kind == "jsd" else 0.5)
    head = Head(torch.eye(VOCABULARY, dtype=torch.float64))  # the hidden states are the logits
    side = FullVocabulary(options, [lambda: head]).side(Streams(teacher_states=teacher[MASK]), temperature)
    compared = side(slice(None))
    logprobs = (student[MASK] / temperature).log_softmax(-1)
    value, slope = (f(logprobs.exp(), logprobs) for f in (compared.value, compared.gradient))
    scores = student.clone().requires_grad_()
    labels = torch.where(MASK, 0, -100)
    loss = GKDTrainer.generalized_jsd_loss(scores, teacher, labels, beta, temperature)
    loss.backward()
    torch.testing.assert_close(value.mean(), loss.detach(), rtol=1e-10, atol=0)
    torch.testing.assert_close(slope / (temperature * MASK.sum()), scores.grad[MASK], rtol=1e-7, atol=1e-12)


@both
def test_given_number_of_tokens(beta, temperature):
    """With `num_items_in_batch`, a sum over this number: the tokens of all microbatches of a step."""
    student, teacher = given_logits()
    labels = torch.where(MASK, 0, -100)
    loss = GKDTrainer.generalized_jsd_loss(student, teacher, labels, beta, temperature, num_items_in_batch=100)
    value, _ = closed(student, teacher, beta, temperature)
    torch.testing.assert_close(loss, value[MASK].sum() / 100, rtol=1e-10, atol=0)


@both
def test_hidden_states(beta, temperature):
    """DistillationTrainer's, in float32, by tiles: value, entropy of the student, and both of the student's gradients,
    of hidden states and head."""
    generator = torch.Generator().manual_seed(1)
    hidden, heads = [], []
    for width in WIDTHS:
        hidden.append(torch.randn(ROWS, TOKENS, width, generator=generator))
        heads.append(torch.randn(VOCABULARY, width, generator=generator))
    trained = [hidden[0].clone().requires_grad_(), heads[0].clone().requires_grad_()]
    loss, entropies, count = _chunked_divergence_loss(
        trained[0], hidden[1], trained[1], heads[1], MASK, beta, num_items_in_batch=100, temperature=temperature
    )
    loss.backward()

    student, teacher = (state.double() @ head.double().T for state, head in zip(hidden, heads, strict=True))
    value, by_logits = closed(student, teacher, beta, temperature)
    by_logits = by_logits * MASK[..., None] / 100
    by_hidden = by_logits @ heads[0].double()
    by_head = by_logits.flatten(0, 1).T @ hidden[0].flatten(0, 1).double()
    assert int(count) == int(MASK.sum())
    assert float(loss.detach()) == pytest.approx(float(value[MASK].sum() / 100), rel=1e-5)
    for found, expected in zip(trained, (by_hidden, by_head), strict=True):
        torch.testing.assert_close(found.grad, expected.float(), rtol=1e-4, atol=1e-6)
    own = student.div(temperature).log_softmax(-1)
    assert float(entropies.detach()) == pytest.approx(float(-(own.exp() * own).sum(-1)[MASK].sum()), rel=1e-5)


@pytest.mark.parametrize("beta", BETAS)
def test_the_formulas_of_gradients(beta):
    """The closed gradients against those of automatic differentiation of the closed values."""
    student, teacher = given_logits()
    scores = student.clone().requires_grad_()
    closed(scores, teacher, beta, 2.0)[0].sum().backward()
    torch.testing.assert_close(scores.grad, closed(student, teacher, beta, 2.0)[1], rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize(("end", "beta"), [(0.0, 1e-4), (1.0, 1 - 1e-4)])
def test_divided_by_its_smaller_weight_jsd_becomes_a_kl(end, beta):
    """The limit (Agarwal et al. 2024, arXiv 2306.13649, section 2): JSD / β → forward KL for β → 0, and JSD / (1 − β) →
    reverse KL for β → 1; so β = 0.0001 trains ten thousand times less than β = 0 with the same learning rate."""
    student, teacher = (scores / 10 for scores in given_logits())
    kl, jsd = (closed(student, teacher, b, 1.0)[0] for b in (end, beta))
    torch.testing.assert_close(jsd / min(beta, 1 - beta), kl, rtol=1e-2, atol=0)


def test_the_temperature_in_trl_softens_both_and_scales_nothing():
    """No factor T²: for logits near each other the gradient falls with 1 / T²."""
    student, teacher = (scores / 100 for scores in given_logits())

    def size(temperature: float) -> float:
        scores = student.clone().requires_grad_()
        GKDTrainer.generalized_jsd_loss(scores, teacher, beta=1.0, temperature=temperature).backward()
        return float(scores.grad.norm())

    assert size(1.0) / size(10.0) == pytest.approx(100, rel=0.2)


def test_trl_begins_with_the_reverse_kl():
    """Defaults: β = 1, and one temperature of 1 for the samples and for both distributions of the loss."""
    defaults = {field.name: field.default for field in fields(DistillationConfig)}
    assert (defaults["beta"], defaults["temperature"]) == (1.0, 1.0)
    assert DistillationTrainer.loss_is_scaled_for_ga, "its loss is a sum over the tokens of the step"
