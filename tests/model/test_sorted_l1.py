"""Sorted L1 (ULD): a value by hand, the gradient by differences and by autograd, and the limits of what it compares."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from burnish.model.sorted_l1 import sorted_l1

sizes, seeds = st.integers(1, 12), st.integers(0, 2**32)


def probabilities(seed: int, size: int, rows: int = 3) -> Tensor:
    return logits(seed, size, rows).softmax(1)


def logits(seed: int, size: int, rows: int = 3) -> Tensor:
    return 2 * torch.randn(rows, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def autograd_value(student: Tensor, teacher: Tensor) -> Tensor:
    """The definition, padded: an independent reference."""
    size = max(student.shape[1], teacher.shape[1])
    padded = [torch.nn.functional.pad(side, (0, size - side.shape[1])) for side in (student, teacher)]
    ours, theirs = (side.sort(1, descending=True).values for side in padded)
    return (ours - theirs).abs().sum(1)


def logit_gradient(logits: Tensor, slope: Tensor) -> Tensor:
    """dD/dy as the caller forms it."""
    p = logits.softmax(1)
    return p * (slope - (p * slope).sum(1, keepdim=True))


def test_by_hand():
    value, slope = sorted_l1(torch.tensor([[0.5, 0.2, 0.3]]), torch.tensor([[0.4, 0.6]]))
    assert value.tolist() == pytest.approx([0.4])
    assert slope.tolist() == [[-1, 1, -1]]


def test_equal_values_have_no_slope():
    value, slope = sorted_l1(torch.tensor([[0.25, 0.5, 0.25]]), torch.tensor([[0.5, 0.375, 0.125, 0.0]]))
    assert value.tolist() == [0.25]
    assert slope.tolist() == [[-1, 0, 1]]  # of two equally probable tokens the first has the higher rank


@given(student=sizes, teacher=sizes, seed=seeds)
def test_value_and_gradient_are_those_of_autograd(student, teacher, seed):
    y, target = logits(seed, student).requires_grad_(), probabilities(seed + 1, teacher)
    expected = autograd_value(y.softmax(1), target)
    (gradient,) = torch.autograd.grad(expected.sum(), y)
    value, slope = sorted_l1(y.softmax(1), target)
    assert not value.requires_grad
    assert not slope.requires_grad
    assert torch.allclose(value, expected.detach())
    assert torch.allclose(logit_gradient(y.detach(), slope), gradient)


class _Distance(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y, target):
        value, slope = sorted_l1(y.softmax(1), target)
        ctx.save_for_backward(logit_gradient(y, slope))
        return value

    @staticmethod
    def backward(ctx, upstream):
        (gradient,) = ctx.saved_tensors
        return upstream[:, None] * gradient, None


@given(student=st.integers(2, 8), teacher=sizes, seed=seeds)
def test_the_gradient_is_that_of_differences_away_from_ties(student, teacher, seed):
    y, target = logits(seed, student), probabilities(seed + 1, teacher)
    ranked = y.softmax(1).sort(1, descending=True).values
    both = min(student, teacher)
    other = target.sort(1, descending=True).values
    assume((ranked[:, :both] - other[:, :both]).abs().min() > 1e-4)
    assume((ranked[:, :-1] - ranked[:, 1:]).min() > 1e-4)
    assert torch.autograd.gradcheck(_Distance.apply, (y.requires_grad_(), target))


@given(size=sizes, seed=seeds)
def test_a_permuted_vocabulary_is_no_distance(size, seed):
    p = probabilities(seed, size)
    value, slope = sorted_l1(p, p[:, torch.randperm(size, generator=torch.Generator().manual_seed(seed))])
    assert not value.any()
    assert not slope.any()


@given(student=sizes, teacher=sizes, seed=seeds)
def test_a_permutation_of_either_vocabulary_moves_only_the_slope(student, teacher, seed):
    p, q = probabilities(seed, student), probabilities(seed + 1, teacher)
    generator = torch.Generator().manual_seed(seed)
    ours, theirs = (torch.randperm(size, generator=generator) for size in (student, teacher))
    value, slope = sorted_l1(p, q)
    permuted, moved = sorted_l1(p[:, ours], q[:, theirs])
    assert torch.equal(permuted, value)
    assert torch.equal(moved, slope[:, ours])


@given(student=sizes, teacher=sizes, more=st.integers(1, 5), seed=seeds)
def test_tokens_of_probability_zero_change_nothing(student, teacher, more, seed):
    p, q = probabilities(seed, student), probabilities(seed + 1, teacher)
    value, slope = sorted_l1(p, q)
    zeros = p.new_zeros(len(p), more)
    padded, _ = sorted_l1(p, torch.cat([q, zeros], 1))
    assert torch.allclose(padded, value)
    padded, longer = sorted_l1(torch.cat([p, zeros], 1), q)
    assert torch.allclose(padded, value)
    assert torch.equal(longer[:, :student], slope)


@given(student=sizes, teacher=sizes, seed=seeds)
def test_it_is_a_distance_of_at_most_two(student, teacher, seed):
    p, q = probabilities(seed, student), probabilities(seed + 1, teacher)
    value, _ = sorted_l1(p, q)
    assert torch.allclose(value, sorted_l1(q, p)[0])
    assert (value <= 2).all()


@given(size=sizes, seed=seeds)
def test_with_one_vocabulary_it_is_at_most_the_plain_distance(size, seed):
    p, q = probabilities(seed, size), probabilities(seed + 1, size)
    plain = (p - q).abs().sum(1)
    assert (sorted_l1(p, q)[0] <= plain + 1e-12).all()
    alike = q.sort(1).values.gather(1, p.argsort(1).argsort(1))  # q's values in p's ranks
    value, slope = sorted_l1(p, alike)
    assert torch.allclose(value, (p - alike).abs().sum(1))
    assert torch.equal(slope, (p - alike).sign())


def test_with_one_vocabulary_it_is_not_the_plain_distance():
    p, q = torch.tensor([[0.9, 0.1]]), torch.tensor([[0.1, 0.9]])
    assert sorted_l1(p, q)[0].tolist() == [0]


@given(student=sizes, teacher=sizes, seed=seeds)
def test_rows_are_independent_and_nothing_given_changes(student, teacher, seed):
    p, q = probabilities(seed, student).float(), probabilities(seed + 1, teacher).float()
    given_p, given_q = p.clone(), q.clone()
    value, slope = sorted_l1(p, q)
    assert torch.equal(p, given_p)
    assert torch.equal(q, given_q)
    assert value.dtype == slope.dtype == torch.float32
    for row in range(len(p)):
        alone, own = sorted_l1(p[row : row + 1], q[row : row + 1])
        assert torch.equal(alone, value[row : row + 1])
        assert torch.equal(own, slope[row : row + 1])
