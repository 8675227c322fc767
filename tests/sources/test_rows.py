"""The source of rows: an epoch draws each once, a step draws none twice, and the seed alone decides the order."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.sources.epoch_order import epoch_order, following
from burnish.sources.rows import RowSource
from tests.conftest import make_groups
from tests.stored import saved

ROWS, SIZES, SEEDS = st.integers(1, 30), st.integers(1, 40), st.integers(0, 99)


def indices(source: RowSource) -> list[list[int]]:
    places = {id(group): index for index, groups in enumerate(source.rows) for group in groups}
    return [[places[id(group)] for group in groups] for groups in source]


def make_source(rows: int, **options) -> RowSource:
    return RowSource([(group,) for group in make_groups([(1, [1])] * rows)], **options)


@given(rows=ROWS, size=SIZES, epochs=st.integers(1, 6), seed=SEEDS)
def test_an_epoch_draws_each_row_once(rows, size, epochs, seed):
    source = make_source(rows, sequences_per_step=size, epochs=epochs, seed=seed)
    flat = list(itertools.chain.from_iterable(indices(source)))
    assert len(flat) == rows * epochs
    for epoch in range(epochs):
        assert sorted(flat[epoch * rows : (epoch + 1) * rows]) == list(range(rows))


@given(rows=ROWS, size=SIZES, epochs=st.floats(0.01, 6), seed=SEEDS)
def test_steps_are_full_and_have_no_row_twice(rows, size, epochs, seed):
    """Of fewer rows than a step draws, it has all."""
    source = make_source(rows, sequences_per_step=size, epochs=epochs, seed=seed)
    steps, full = indices(source), min(size, rows)
    draws = max(1, round(epochs * rows))
    assert len(steps) == source.num_steps == math.ceil(draws / full)
    assert [len(step) for step in steps] == [full] * (len(steps) - 1) + [draws - full * (len(steps) - 1)]
    assert all(len(set(step)) == len(step) for step in steps)


@given(rows=ROWS, size=SIZES, steps=st.integers(1, 20), seed=SEEDS)
def test_max_steps_are_full_steps(rows, size, steps, seed):
    drawn = indices(make_source(rows, sequences_per_step=size, max_steps=steps, seed=seed))
    assert [len(step) for step in drawn] == [min(size, rows)] * steps
    assert all(len(set(step)) == len(step) for step in drawn)


@given(rows=ROWS, size=SIZES, seed=SEEDS)
def test_the_order_is_that_of_seed_and_epoch(rows, size, seed):
    """Rows of a step in which two epochs meet wait for the next step; all others stand where the epoch has them."""
    full = min(size, rows)
    flat = list(itertools.chain.from_iterable(indices(make_source(rows, sequences_per_step=size, epochs=5, seed=seed))))
    for epoch in range(5):
        expected, actual = epoch_order(seed, epoch, rows).tolist(), flat[epoch * rows : (epoch + 1) * rows]
        begun = epoch * rows % full
        moved = set(flat[epoch * rows - begun : epoch * rows])
        assert [row for row in actual if row not in moved] == [row for row in expected if row not in moved]
        assert [row for row in actual if row in moved] == [row for row in expected if row in moved]
        assert begun or actual == expected


def test_a_row_of_the_open_step_waits_for_the_next_one():
    order, before = np.array([3, 1, 0, 2]), np.array([0, 2, 1, 3])
    assert following(order, before, begun=1, step=3).tolist() == [1, 0, 3, 2]
    assert following(order, before, begun=0, step=2).tolist() == order.tolist()


@given(rows=ROWS, size=SIZES, cut=st.integers(0, 20), seed=SEEDS)
def test_resuming_gives_what_would_have_followed(rows, size, cut, seed):
    whole = indices(make_source(rows, sequences_per_step=size, seed=seed, max_steps=20))
    begun = make_source(rows, sequences_per_step=size, seed=seed, max_steps=20)
    for _ in itertools.islice(begun, cut):
        pass
    resumed = make_source(rows, sequences_per_step=size, seed=seed, max_steps=20)
    resumed.load_state_dict(*saved(begun.state_dict()))
    assert resumed.epoch == begun.epoch == cut * min(size, rows) / rows
    assert indices(resumed) == whole[cut:]


@given(rows=st.integers(2, 30), size=SIZES, share=st.floats(0.01, 0.99), seed=SEEDS)
def test_a_short_run_draws_what_a_long_one_begins_with(rows, size, share, seed):
    """Given the rows that it draws alone, in their order; also of a broken epoch."""
    every = make_source(rows, sequences_per_step=size, epochs=share, seed=seed)
    drawn = [every.rows[row] for row in epoch_order(seed, 0, rows)[: every.total]]
    short = RowSource(drawn, sequences_per_step=size, epochs=share, seed=seed, epoch_rows=rows)
    assert short.num_steps == every.num_steps
    assert [[id(group) for group in step] for step in short] == [[id(group) for group in step] for step in every]
    assert short.epoch == every.epoch == every.total / rows


def test_epochs_and_seeds_have_different_orders():
    first, second = (indices(make_source(50, sequences_per_step=50, seed=seed, epochs=2)) for seed in (0, 1))
    assert len({tuple(order) for order in [*first, *second]}) == 4


def test_groups_of_one_row_stay_together():
    groups = make_groups([(1, [1])] * 6)
    source = RowSource([groups[:1], groups[1:4], groups[4:]], sequences_per_step=1, seed=0)
    assert sorted(map(len, source)) == [1, 2, 3]


def test_broken_epochs():
    assert sum(map(len, indices(make_source(10, sequences_per_step=4, seed=0, epochs=1.5)))) == 15
    assert sum(map(len, indices(make_source(10, sequences_per_step=4, seed=0, epochs=0.01)))) == 1


def test_a_source_has_usable_rows():
    with pytest.raises(AssertionError, match="usable"):
        next(iter(RowSource([()], sequences_per_step=1, seed=0)))
