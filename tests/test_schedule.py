"""Schedules by hand and by law."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.schedule import Schedule

SHAPES = ["constant", "linear", "cosine", "wsd"]


@given(shape=st.sampled_from(SHAPES), total=st.integers(1, 300), data=st.data())
def test_rises_then_never_rises(shape, total, data):
    warmup = data.draw(st.integers(0, total))
    decay = data.draw(st.integers(0, total - warmup))
    factors = [Schedule(shape, total, warmup, decay).factor(step) for step in range(total)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert factors[:warmup] == sorted(factors[:warmup])
    assert factors[warmup:] == sorted(factors[warmup:], reverse=True)
    if warmup:
        assert factors[warmup - 1] == 1
    assert factors[0] > 0, "no step is wasted on a rate of zero"


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1, 1, 0.85355339, 0.5, 0.14644661]),
        ("wsd", [0.5, 1, 1, 1, 1, 0.5]),
    ],
)
def test_by_hand(shape, expected):
    schedule = Schedule(shape, total=6, warmup=2, decay=2)
    assert [schedule.factor(step) for step in range(6)] == pytest.approx(expected)


def test_the_final_factor_is_the_limit():
    assert Schedule("cosine", total=10_000, final=0.1).factor(9_999) == pytest.approx(0.1, abs=1e-6)
