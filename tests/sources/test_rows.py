"""The source of rows: epochs are permutations, order depends on the seed alone, and resuming continues."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from burnish.sources.rows import RowSource
from tests.conftest import make_groups


def indices(source: RowSource) -> list[list[int]]:
    places = {id(group): index for index, groups in enumerate(source.rows) for group in groups}
    return [[places[id(group)] for group in groups] for groups in source]


def make_source(rows: int, left_out: frozenset[int] = frozenset(), **options) -> RowSource:
    groups = make_groups([(1, [1])] * rows)
    return RowSource([() if i in left_out else (group,) for i, group in enumerate(groups)], **options)


@given(rows=st.integers(1, 30), size=st.integers(1, 40), epochs=st.integers(1, 4), seed=st.integers(0, 99))
def test_every_epoch_is_a_permutation(rows, size, epochs, seed):
    source = make_source(rows, sequences_per_step=size, epochs=epochs, seed=seed)
    steps = indices(source)
    assert len(steps) == source.num_steps
    assert all(len(step) == size for step in steps[:-1])
    flat = list(itertools.chain.from_iterable(steps))
    assert len(flat) == rows * epochs
    for epoch in range(epochs):
        assert sorted(flat[epoch * rows : (epoch + 1) * rows]) == list(range(rows))


@given(rows=st.integers(1, 30), size=st.integers(1, 40), cut=st.integers(0, 20), seed=st.integers(0, 99))
def test_resuming_gives_what_would_have_followed(rows, size, cut, seed):
    whole = indices(make_source(rows, sequences_per_step=size, seed=seed, max_steps=20))
    begun = make_source(rows, sequences_per_step=size, seed=seed, max_steps=20)
    for _ in itertools.islice(begun, cut):
        pass
    resumed = make_source(rows, sequences_per_step=size, seed=seed, max_steps=20)
    resumed.restore(begun.state())
    assert indices(resumed) == whole[cut:]


def test_epochs_and_seeds_have_different_orders():
    first, second = (indices(make_source(50, sequences_per_step=50, seed=seed, epochs=2)) for seed in (0, 1))
    assert len({tuple(order) for order in [*first, *second]}) == 4


@given(data=st.data(), rows=st.integers(2, 30), size=st.integers(1, 40), seed=st.integers(0, 99))
def test_rows_that_were_left_out_are_replaced(data, rows, size, seed):
    left_out = data.draw(st.frozensets(st.integers(0, rows - 1), max_size=rows - 1))
    options = {"sequences_per_step": size, "epochs": 2, "seed": seed}
    every, some = make_source(rows, **options), make_source(rows, left_out, **options)
    assert some.num_steps == every.num_steps
    expected, actual = indices(every), indices(some)
    assert [len(step) for step in actual] == [len(step) for step in expected]
    for epoch in (0, 1):
        order = list(itertools.chain.from_iterable(expected))[epoch * rows : (epoch + 1) * rows]
        drawn = list(itertools.chain.from_iterable(actual))[epoch * rows : (epoch + 1) * rows]
        following = [next(row for row in order[i:] + order[:i] if row not in left_out) for i in range(rows)]
        assert drawn == following


def test_groups_of_one_row_stay_together():
    groups = make_groups([(1, [1])] * 6)
    source = RowSource([groups[:1], groups[1:4], groups[4:]], sequences_per_step=1, seed=0)
    assert sorted(map(len, source)) == [1, 2, 3]


def test_broken_epochs():
    assert sum(map(len, indices(make_source(10, sequences_per_step=4, seed=0, epochs=1.5)))) == 15
    assert sum(map(len, indices(make_source(10, sequences_per_step=4, seed=0, epochs=0.01)))) == 1
