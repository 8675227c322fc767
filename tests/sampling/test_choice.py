"""Draws are exact, truncations do as their papers say, and penalties are those of transformers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import MinPLogitsWarper, RepetitionPenaltyLogitsProcessor, TopKLogitsWarper, TopPLogitsWarper

from burnish.sampling import choice
from burnish.sampling.choice import BLOCK, choose, draw, sum_by_doubling
from burnish.sampling.params import SamplingParams


def random_logits(rows: int, size: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(rows, size, generator=generator, dtype=torch.float64)


def chosen(logits: torch.Tensor, uniforms: torch.Tensor, params: SamplingParams, seen=None) -> torch.Tensor:
    return choose(logits.softmax(-1), logits.logsumexp(-1), uniforms, params, seen)


def support(logits: torch.Tensor, params: SamplingParams, seen=None, points: int = 4000) -> torch.Tensor:
    """[V] how often each token comes when the uniform numbers are a fine grid: its probability, to 1 / points."""
    grid = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    seen = None if seen is None else seen.expand(points, -1)
    tokens = chosen(logits.expand(points, -1), grid, params, seen)
    return torch.bincount(tokens, minlength=logits.shape[-1]).double() / points


@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=3 * BLOCK).filter(lambda weights: sum(weights) > 1e-3),
    st.floats(0, 1, exclude_max=True),
)
def test_a_draw_is_the_inverse_of_the_running_sum(weights, number):
    tensor = torch.tensor([weights], dtype=torch.float64)
    [token] = draw(tensor, torch.tensor([number], dtype=torch.float64)).tolist()
    assert weights[token] > 0
    target, slack = number * sum(weights), 1e-12 * sum(weights)
    assert sum(weights[:token]) <= target + slack
    assert sum(weights[: token + 1]) >= target - slack


@pytest.mark.parametrize("number", [0.0, 1 - 2**-53])
@pytest.mark.parametrize("size", [1, 5, BLOCK, BLOCK + 1, 5 * BLOCK])
def test_the_ends_of_the_unit_interval_are_tokens_with_weight(size, number):
    weights = torch.zeros(1, size)
    weights[0, size // 2] = 1e-30
    assert draw(weights, torch.tensor([number], dtype=torch.float64)).tolist() == [size // 2]


def test_without_truncation_the_frequencies_are_the_probabilities():
    logits = random_logits(1, 300)
    assert torch.allclose(support(logits, SamplingParams()), logits.softmax(-1)[0], rtol=0, atol=1.01 / 4000)


@pytest.mark.parametrize(
    ("params", "warper"),
    [
        (SamplingParams(top_k=5), TopKLogitsWarper(5)),
        (SamplingParams(top_k=1000), TopKLogitsWarper(1000)),
        (SamplingParams(top_p=0.7), TopPLogitsWarper(0.7)),
        (SamplingParams(top_p=1e-9), TopPLogitsWarper(1e-9)),
        (SamplingParams(min_p=0.2), MinPLogitsWarper(0.2)),
        (SamplingParams(min_p=1.0), MinPLogitsWarper(1.0)),
    ],
    ids=lambda each: type(each).__name__,
)
def test_truncations_keep_what_transformers_keeps(params, warper):
    logits = random_logits(1, 200, seed=1)
    expected = warper(None, logits.clone()).softmax(-1)[0]
    assert torch.allclose(support(logits, params), expected, rtol=0, atol=1.01 / 4000)


def test_truncations_apply_one_after_the_other():
    logits = random_logits(1, 200, seed=2)
    expected = logits.clone()
    for warper in (TopKLogitsWarper(20), TopPLogitsWarper(0.8), MinPLogitsWarper(0.1)):
        expected = warper(None, expected)
    probabilities = support(logits, SamplingParams(top_k=20, top_p=0.8, min_p=0.1))
    assert torch.allclose(probabilities, expected.softmax(-1)[0], rtol=0, atol=1.01 / 4000)


def test_a_penalty_is_on_logits_as_in_transformers():
    """Logits shifted by a constant have the same probabilities, but another penalty."""
    tokens = torch.tensor([[3, 5, 5, 17]])
    seen = torch.zeros(1, 60, dtype=torch.bool)
    seen[0, tokens[0]] = True
    for shift in (0.0, 4.0):
        logits = random_logits(1, 60, seed=3) + shift
        expected = RepetitionPenaltyLogitsProcessor(1.7)(tokens, logits.clone()).softmax(-1)[0]
        probabilities = support(logits, SamplingParams(repetition_penalty=1.7), seen)
        assert torch.allclose(probabilities, expected, rtol=0, atol=1.01 / 4000)


def test_temperature_zero_is_the_likeliest_token():
    logits = random_logits(9, 70)
    numbers = torch.rand(9, generator=torch.Generator().manual_seed(0))
    assert chosen(logits, numbers, SamplingParams(temperature=0.0)).equal(logits.argmax(-1))


def test_rows_are_drawn_each_with_its_own_number():
    logits = random_logits(1, 500).expand(64, -1)
    numbers = torch.rand(64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = chosen(logits, numbers, SamplingParams())
    alone = torch.cat([chosen(logits[:1], numbers[k : k + 1], SamplingParams()) for k in range(64)])
    assert together.equal(alone)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 0},
        {"temperature": -0.1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"min_p": 2.0},
        {"top_k": -1},
        {"repetition_penalty": 0.0},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(AssertionError):
        SamplingParams(**wrong)


def test_a_draw_in_float32_stays_within_the_kept_tokens():
    """Rounding of sums never gives a token of probability 0, at 100 000 draws close to the ends."""
    weights = torch.zeros(1, 1000)
    weights[0, [1, 500, 998]] = torch.tensor([1e-7, 1.0, 1e-7])
    numbers = torch.cat([torch.linspace(0, 1e-6, 500), 1 - torch.linspace(2**-24, 1e-6, 500)])
    tokens = draw(weights.expand(len(numbers), -1), numbers)
    assert set(tokens.tolist()) <= {1, 500, 998}
    assert math.isclose(np.mean(tokens.tolist()), 500, rel_tol=0.5)


def test_a_running_sum_by_doubling_by_hand():
    assert sum_by_doubling(torch.tensor([[1.0, 2, 3, 4, 5], [0, 1, 0, 1, 0]])).tolist() == [
        [1, 3, 6, 10, 15],
        [0, 1, 1, 2, 2],
    ]


@pytest.mark.parametrize("size", [1, 2, 127, 128, 1000])
def test_a_running_sum_by_doubling_is_the_running_sum(size):
    values = torch.rand(3, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(sum_by_doubling(values), values.cumsum(dim=-1), rtol=1e-14, atol=0)


@pytest.mark.parametrize("params", [SamplingParams(), SamplingParams(top_p=0.8)], ids=["plain", "top-p"])
def test_tokens_that_a_device_draws_are_those_of_the_host(monkeypatch, params):
    """By running sums in another order of additions."""
    logits, numbers = random_logits(200, 500), torch.rand(200, dtype=torch.float64)
    here = chosen(logits, numbers, params)
    monkeypatch.setattr(choice, "_cumulative_sum", sum_by_doubling)
    assert torch.equal(chosen(logits, numbers, params), here)
