"""Numbers of the counter: uniform, independent of order and of company, different in every coordinate."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.sampling.uniform import uniform

ANY = st.integers(-(2**63), 2**63 - 1)


@given(ANY, ANY, st.lists(ANY, min_size=1, max_size=5))
def test_a_number_is_a_function_of_its_own_coordinates(seed, step, places):
    together = uniform(seed, step, np.array(places, dtype=np.int64))
    alone = [float(uniform(seed, step, place)[0]) for place in places]
    assert together.tolist() == alone
    assert ((together >= 0) & (together < 1)).all()


@given(ANY, ANY)
def test_the_same_step_of_another_seed_or_coordinate_is_another_number(seed, step):
    numbers = [uniform(seed, step, 0), uniform(seed, step, 1), uniform(seed + 1, step, 0), uniform(seed, 0, step, 0)]
    assert len({float(number[0]) for number in numbers}) == len(numbers)


@pytest.mark.parametrize("axis", ["seed", "step", "prompt", "index", "place"])
def test_numbers_are_uniform_along_every_coordinate(axis):
    """Chi-square over 64 bins, at 5 standard deviations; neighbours are uncorrelated to the same bound."""
    count, bins = 2**15, 64
    line = np.arange(count, dtype=np.int64)
    coordinates = [line if axis == name else 3 for name in ("step", "prompt", "index", "place")]
    if axis == "seed":
        numbers = np.array([uniform(int(seed), 3, 3, 3, 3)[0] for seed in line])
    else:
        numbers = uniform(3, *coordinates)
    counts = np.bincount((numbers * bins).astype(int), minlength=bins)
    chi_square = float(((counts - count / bins) ** 2 / (count / bins)).sum())
    assert abs(chi_square - (bins - 1)) < 5 * np.sqrt(2 * (bins - 1))
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 5 / np.sqrt(count)
