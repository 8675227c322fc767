"""What is kept to be learned from again: how much, which, and that it goes on bit for bit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.rollouts.replay_buffer import ReplayBuffer
from burnish.rollouts.settings import ReplayRule
from tests.conftest import make_groups
from tests.stored import plain, saved


def assign(count: int, seed: int = 0):
    return [(group,) for group in make_groups([(2 + place, [3]) for place in range(count)], seed)]


def steps(drawn) -> list[int]:
    return [step for step, _ in drawn]


@given(st.integers(1, 20), st.floats(0.01, 0.99), st.integers(0, 30))
def test_a_share_is_from_earlier_steps_and_something_is_always_new(wanted, share, kept):
    buffer = ReplayBuffer(ReplayRule(100, share), seed=0)
    buffer.add(0, assign(kept))
    drawn = buffer.draw(wanted, 1)
    assert len(drawn) == min(kept, wanted - 1, int(share * wanted + 0.5))
    assert len({id(lesson) for _, lesson in drawn}) == len(drawn)


def test_the_oldest_leave():
    buffer = ReplayBuffer(ReplayRule(3, 0.9), seed=0)
    for step in range(3):
        buffer.add(step, assign(2, seed=step))
    assert steps(buffer.draw(10, 3)) == [1, 2, 2]


def test_draws_go_by_the_seed_and_the_step():
    def drawn(seed: int, step: int) -> list[int]:
        buffer = ReplayBuffer(ReplayRule(50, 0.5), seed)
        for number in range(50):
            buffer.add(number, assign(1))
        return steps(buffer.draw(10, step))

    assert drawn(0, 7) == drawn(0, 7)
    assert len({tuple(drawn(seed, step)) for seed in range(2) for step in range(3)}) == 6


@pytest.mark.parametrize("count", [0, 2, 5])
def test_what_is_kept_comes_back(count):
    first, again = (ReplayBuffer(ReplayRule(4, 0.5), seed=1) for _ in range(2))
    first.add(3, assign(count))
    again.load_state_dict(*saved(first.state_dict()))
    one, other = first.draw(8, 9), again.draw(8, 9)
    assert steps(one) == steps(other)
    assert [plain(g) for _, each in one for g in each] == [plain(g) for _, each in other for g in each]
