"""Schedules by hand and by law."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.train.schedule import SCHEDULE_OPTIONS, Schedule

FALLING = [shape for shape in SCHEDULE_OPTIONS if shape != "cosine_restarts"]


@given(shape=st.sampled_from(FALLING), total=st.integers(1, 300), data=st.data())
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
        ("polynomial", [0.5, 1, 1, 0.5625, 0.25, 0.0625]),
        ("inverse_sqrt", [0.5, 1, (2 / 3) ** 0.5, (2 / 4) ** 0.5, (2 / 5) ** 0.5, (2 / 6) ** 0.5]),
        ("cosine_restarts", [0.5, 1, 1, 0.5, 1, 0.5]),
    ],
)
def test_by_hand(shape, expected):
    schedule = Schedule(shape, total=6, warmup_steps=2, decay_steps=2)
    assert [schedule.factor(step) for step in range(6)] == pytest.approx(expected)


@pytest.mark.parametrize("shape", [shape for shape, options in SCHEDULE_OPTIONS.items() if "min_lr_ratio" in options])
def test_the_final_factor_is_the_limit(shape):
    schedule = Schedule(shape, total=10_000, decay_steps=10_000, min_lr_ratio=0.1)
    assert schedule.factor(9_999) == pytest.approx(0.1, abs=2e-4)
    assert min(schedule.factor(step) for step in range(10_000)) >= 0.1


def test_a_polynomial_of_power_one_is_linear_and_one_cycle_a_cosine():
    for step in range(20):
        assert Schedule("polynomial", 20, power=1.0).factor(step) == Schedule("linear", 20).factor(step)
        assert Schedule("cosine_restarts", 20, cycles=1).factor(step) == Schedule("cosine", 20).factor(step)


def test_every_restart_begins_at_the_peak():
    factors = [Schedule("cosine_restarts", 32, warmup_steps=2, cycles=3).factor(step) for step in range(32)]
    assert [step for step, factor in enumerate(factors) if factor == 1] == [1, 2, 12, 22]
