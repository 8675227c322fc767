"""Stochastic rounding: neighbours, expectation, and numbers that are none."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from burnish.optim.masters import round_stochastically


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False, max_value=2.0**127, min_value=-(2.0**127)))
def test_to_one_of_the_two_neighbours(number):
    source = torch.full((64,), number)
    rounded = round_stochastically(source, generator())
    towards_zero = (source.view(torch.int32) & -(1 << 16)).view(torch.float32).bfloat16()
    away = (towards_zero.view(torch.int16) + 1).view(torch.bfloat16)
    exact = towards_zero.float() == source
    assert ((rounded == towards_zero) | (~exact & (rounded == away))).all()


def test_on_average_the_number_itself():
    """A standard error of 1/2 neighbour distance / sqrt(n): five of them are allowed."""
    count = 200_000
    for number in (1.001, -3.1415, 2.0**-130 * 1.37, 7e33):
        source = torch.full((count,), number)
        mean = float(round_stochastically(source, generator(1)).double().mean())
        low = float((source[:1].view(torch.int32) & -(1 << 16)).view(torch.float32))
        distance = abs(float((torch.tensor([low]).view(torch.int32) + (1 << 16)).view(torch.float32)) - low)
        assert abs(mean - float(source[0])) < 5 * 0.5 * distance / count**0.5, number


def test_numbers_of_bfloat16_stay():
    source = torch.randn(1000, generator=generator()).bfloat16().float()
    assert torch.equal(round_stochastically(source, generator()).float(), source)


def test_infinities_and_nan_stay():
    """All bits of a NaN may be set: adding to them would make a number of it."""
    nan = torch.tensor([0x7FFFFFFF, -1], dtype=torch.int32).view(torch.float32)
    assert round_stochastically(nan, generator()).isnan().all()
    infinite = torch.tensor([float("inf"), -float("inf")])
    assert torch.equal(round_stochastically(infinite, generator()).float(), infinite)
