"""What is 0 in the reals is exactly 0, and nothing else is taken for it."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.rounding import alike, deviation, from_mean, summed

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], True),
        ([0.7], True),
        ([0.0, -0.0], True),
        ([0.1 + 0.2, 0.3], True),
        ([1e9, 1e9 + 1e-6], True),
        ([1.0, 1.0 + 2**-24], False),
        ([0.0, 1e-300], False),
        ([-1.0, 1.0], False),
    ],
    ids=str,
)
def test_what_is_alike(values, expected):
    assert alike(values) == expected


def test_sums_of_which_nothing_is_left():
    assert 0.1 + 0.2 - 0.3 != 0
    assert math.fsum([0.1, 0.2, -0.3]) != 0
    assert summed([0.1, 0.2, -0.3]) == 0
    assert summed([]) == 0
    assert summed([1.0, -1.0, 2**-24]) == 2**-24, "what is a number in float32 stays"


@given(st.floats(-1e300, 1e300), st.integers(1, 64))
def test_equal_numbers_have_no_difference_and_no_deviation(value, count):
    assert from_mean([value] * count) == [0.0] * count
    assert deviation([value] * count) == 0.0


def test_differences_by_hand():
    assert from_mean([1, 0, 0, 3]) == [0, -1, -1, 2]
    assert from_mean([0.1, 0.2, 0.3])[1] == 0, "0.2 is the mean in the reals, and not in floats"
    assert deviation([1, 3]) == math.sqrt(2)
    assert deviation([5.0]) == deviation([]) == 0


@given(st.lists(NUMBERS, min_size=1, max_size=12), st.randoms())
def test_the_order_changes_nothing(values, random):
    places = list(range(len(values)))
    random.shuffle(places)
    plain, turned = from_mean(values), from_mean([values[place] for place in places])
    assert turned == [plain[place] for place in places]
    assert deviation([values[place] for place in places]) == deviation(values)


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=12), st.integers(-1000, 1000), st.sampled_from([1, 0.5]))
def test_a_shift_changes_nothing(values, shift, unit):
    """Bit for bit, of numbers whose shift is exact."""
    assert from_mean([(value + shift) * unit for value in values]) == from_mean([value * unit for value in values])


@given(st.lists(NUMBERS, min_size=2, max_size=12))
def test_other_differences_are_those_of_the_reals(values):
    mean = sum(map(Fraction, values)) / len(values)
    largest = max(map(abs, values))
    for value, difference in zip(values, from_mean(values), strict=True):
        assert abs(difference - (Fraction(value) - mean)) <= 2**-40 * Fraction(largest)
