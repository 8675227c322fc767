"""Prefix trees: their order, what they share, how they are laid out and where they are cut."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import create_mask

from burnish.layout import LayoutBuilder
from burnish.microbatch import CostModel, Part
from burnish.model.flex import layout_mask
from burnish.packing import count_denominators, pack
from burnish.prefix_tree import PrefixTree, common_prefix, tree_of
from burnish.types import Denominator, Fork, Group, Microbatch, Response
from tests.conftest import make_groups
from tests.test_packing import rows_of, smallest_budget, visible_by_definition
from tests.trees import grown, trees

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9).map(torch.tensor), min_size=1, max_size=9)


@given(sequences=SEQUENCES)
def test_a_tree_has_every_beginning_once(sequences):
    """The tokens to compute are the distinct beginnings, as in a trie."""
    tree = tree_of(sequences, min_saved=1) or PrefixTree.flat(len(sequences))
    beginnings = {tuple(sequence[:size].tolist()) for sequence in sequences for size in range(1, len(sequence) + 1)}
    assert sum(map(len, sequences)) - sum(tree.shared) == len(beginnings)


@given(sequences=SEQUENCES, min_saved=st.integers(1, 20))
def test_neighbors_share_what_the_tree_says(sequences, min_saved):
    tree = tree_of(sequences, min_saved) or PrefixTree.flat(len(sequences))
    assert sorted(tree.order) == list(range(len(sequences)))
    for (one, other), shared in zip(pairwise(tree.order), tree.shared[1:], strict=True):
        assert shared <= common_prefix(sequences[one], sequences[other])


@given(sequences=SEQUENCES, min_saved=st.integers(1, 20))
def test_what_saves_little_is_not_shared(sequences, min_saved):
    """Every subtree saves `min_saved` tokens beyond the one around it."""
    tree = tree_of(sequences, min_saved)
    if tree is None:
        return
    for size in set(tree.shared) - {0}:
        for run in runs_of_at_least(tree.shared, size):
            outer = max(tree.shared[run[0] - 1], *tree.shared[run[-1] + 1 :][:1], 0)
            assert len(run) * (min(tree.shared[place] for place in run) - outer) >= min_saved


def runs_of_at_least(shared: tuple[int, ...], size: int) -> list[list[int]]:
    """Places of neighbors that share at least so much, run by run."""
    runs: list[list[int]] = [[]]
    for place, value in enumerate(shared):
        if value >= size:
            runs[-1].append(place)
        else:
            runs.append([])
    return [run for run in runs if run]


def test_sequences_without_a_common_beginning_have_no_tree():
    assert tree_of([torch.tensor([1, 2]), torch.tensor([2, 2])], min_saved=1) is None
    assert tree_of([torch.tensor([1, 2])], min_saved=1) is None
    assert tree_of([torch.arange(63), torch.arange(63)]) is None
    assert tree_of([torch.arange(64), torch.arange(64)]) == PrefixTree((0, 1), (0, 64))


def test_the_longest_chain_is_one_run():
    """Turns of a conversation whose thoughts are stripped: the last one comes first, so others branch off its run."""
    answers = [torch.tensor([1, number, 1]) for number in range(4)]
    turns = [torch.cat([*answers[:number], torch.full((5,), 9)]) for number in range(4)]
    tree = tree_of(turns, min_saved=1)
    assert tree == PrefixTree((2, 3, 1, 0), (0, 6, 3, 0))


def test_a_chain_of_many_turns():
    turns = [torch.cat([torch.arange(number), torch.tensor([-1])]) for number in range(3000)]
    tree = tree_of(turns, min_saved=1)
    assert sum(map(len, turns)) - sum(tree.shared) == 2999 + 3000


@given(group=trees(), data=st.data())
def test_a_part_of_a_tree_shares_the_least_between(group, data):
    members = sorted(data.draw(st.sets(st.sampled_from(range(len(group.responses))), min_size=1)))
    tree = group.tree or PrefixTree.flat(len(group.responses))
    part = tree.subset(members)
    order = [members[index] for index in part.order]
    assert order == [index for index in tree.order if index in members]
    for (one, other), shared in zip(pairwise(order), part.shared[1:], strict=True):
        between = tree.shared[tree.order.index(one) + 1 : tree.order.index(other) + 1]
        assert shared == min(between)


def test_a_row_of_two_trees():
    builder = LayoutBuilder()
    assert builder.add(5).tolist() == [0, 1, 2, 3, 4]
    assert builder.add(7, shared=3).tolist() == [0, 1, 2, 5, 6, 7, 8]
    assert builder.add(6, shared=5).tolist() == [0, 1, 2, 5, 6, 9]
    assert builder.add(2).tolist() == [10, 11]
    layout = builder.layout()
    assert layout.segments[2].context == ((0, 3), (5, 2))
    assert layout.entry.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 3, 3]
    assert layout.exit.tolist() == [2, 2, 2, 0, 0, 2, 2, 1, 1, 2, 3, 3]
    assert layout.positions.tolist() == [0, 1, 2, 3, 4, 3, 4, 5, 6, 5, 0, 1]


def texts_of(group: Group) -> list[tuple[int, ...]]:
    """Every text of every response with the prompt."""
    return [
        tuple(torch.cat([group.prompt, sequence]).tolist())
        for response in group.responses
        for sequence in response.sequences
    ]


def packed_texts(microbatch: Microbatch) -> list[tuple[int, ...]]:
    count = int(microbatch.layout.exit.max()) + 1
    return [tuple(microbatch.tokens[rows_of(microbatch.layout, number)].tolist()) for number in range(count)]


@given(groups=st.lists(trees(), min_size=1, max_size=4), slack=st.integers(0, 40), share=st.booleans())
def test_every_sequence_is_packed_within_the_budget(groups, slack, share):
    budget = smallest_budget(groups) + slack
    microbatches = pack(groups, budget, CostModel(3.0, 0.5), share)
    assert all(len(microbatch.tokens) <= budget for microbatch in microbatches)
    found = sorted(text for microbatch in microbatches for text in packed_texts(microbatch))
    assert found == sorted(text for group in groups for text in texts_of(group))


@given(seed=st.integers(0, 10**6), slack=st.integers(0, 40), share=st.booleans())
def test_texts_of_a_response_stay_together(seed, slack, share):
    groups = grown(make_groups([(3, [7, 5, 9]), (2, [6]), (4, [3, 3])], seed, holes=True), seed, forks=True)
    microbatches = pack(groups, smallest_budget(groups) + slack, share=share)
    found = sorted(text for microbatch in microbatches for text in packed_texts(microbatch))
    assert found == sorted(text for group in groups for text in texts_of(group))
    responses = [
        (group, index)
        for microbatch in microbatches
        for group, index in zip(microbatch.sequence_group.tolist(), microbatch.sequence_index.tolist(), strict=True)
    ]
    assert sorted(responses) == [(g, k) for g, group in enumerate(groups) for k in range(len(group.responses))]


@given(group=trees(), slack=st.integers(0, 20))
def test_each_sequence_trains_its_own_tokens(group, slack):
    """A token that several responses share is scored for each that trains it; its predictor is one position before."""
    budget = smallest_budget([group]) + slack
    scored = []
    for microbatch in pack([group], budget):
        layout, sequence = microbatch.layout, microbatch.sequence
        for row, predictor, target, number in zip(
            microbatch.token_positions.tolist(),
            microbatch.predictor_positions.tolist(),
            microbatch.targets.tolist(),
            microbatch.sequence_index[sequence].tolist(),
            strict=True,
        ):
            assert microbatch.tokens[row] == target
            assert layout.positions[row] == layout.positions[predictor] + 1
            assert layout.entry[predictor] <= layout.entry[row] <= layout.exit[predictor]
            scored.append((number, int(layout.positions[row]) - len(group.prompt), target))
        for indices in microbatch.gather_rounds:
            assert len(microbatch.token_positions[indices].unique()) == len(indices)
        ends = microbatch.sequence_end_positions.tolist()
        for end, number in zip(ends, microbatch.sequence_index.tolist(), strict=True):
            response = group.responses[number]
            assert int(layout.positions[end]) == len(group.prompt) + len(response.tokens) - 1
            assert microbatch.tokens[end] == response.tokens[-1]
    expected = [
        (number, at, int(response.tokens[at]))
        for number, response in enumerate(group.responses)
        for at in response.trainable.nonzero()[:, 0].tolist()
    ]
    assert sorted(scored) == sorted(expected)


@settings(max_examples=40)
@given(groups=st.lists(trees(), min_size=1, max_size=3), window=st.sampled_from([None, 1, 4]))
def test_both_kernels_are_told_the_same_visibility(groups, window):
    for microbatch in pack(groups, smallest_budget(groups) + 20):
        rows = len(microbatch.tokens)
        mask = create_mask(layout_mask(microbatch.layout, window), 1, 1, rows, rows, device="cpu")[0, 0]
        assert torch.equal(mask, visible_by_definition(microbatch.layout, window))


@given(group=trees(max_responses=6), slack=st.integers(0, 20), per_pair=st.sampled_from([0.0, 0.3]))
def test_a_tree_is_cut_where_it_costs_least(group, slack, per_pair):
    """Against all ways to cut its order."""
    budget, cost = smallest_budget([group]) + slack, CostModel(1.0, per_pair)
    tree = group.tree or PrefixTree.flat(len(group.responses))
    count = len(tree.order)
    ways = [cut_at(group, tree, cuts) for size in range(count) for cuts in combinations(range(1, count), size)]
    fitting = [parts for parts in ways if all(part.num_tokens <= budget for part in parts)]
    best = min(sum(part.cost(cost) for part in parts) for parts in fitting)
    found = sum(computed(microbatch, cost) for microbatch in pack([group], budget, cost))
    assert found == pytest.approx(best)


def cut_at(group: Group, tree: PrefixTree, cuts: tuple[int, ...]) -> list[Part]:
    borders = pairwise([0, *cuts, len(tree.order)])
    return [Part(group.subset(sorted(tree.order[first:last])), 0) for first, last in borders]


def computed(microbatch: Microbatch, cost: CostModel) -> float:
    segments = microbatch.layout.segments
    pairs = sum(s.length * (s.length + 1) / 2 + s.length * s.context_length for s in segments)
    return cost.per_token * len(microbatch.tokens) + cost.per_pair * pairs


@given(group=trees())
def test_cost_counts_shared_tokens_once(group):
    part, cost = Part(group, 0), CostModel(1.0, 0.25)
    [microbatch] = pack([group], part.num_tokens)
    assert part.num_tokens == len(microbatch.tokens) == group.num_tokens
    assert part.cost(cost) == pytest.approx(computed(microbatch, cost))
    assert part.num_tokens <= sum(own.num_tokens for own in group.expanded())


@given(groups=st.lists(trees(), min_size=1, max_size=3), slack=st.integers(0, 40))
def test_denominators_do_not_know_trees(groups, slack):
    counted = count_denominators(groups)
    assert counted == count_denominators([part for group in groups for part in group.expanded()]) | {
        Denominator.GROUPS: len(groups),
        Denominator.CHOSEN_WEIGHT: counted[Denominator.CHOSEN_WEIGHT],
    }
    microbatches = pack(groups, smallest_budget(groups) + slack)
    assert counted[Denominator.TOKENS] == sum(len(m.targets) for m in microbatches)
    assert counted[Denominator.SEQUENCES] == sum(m.num_sequences for m in microbatches)


def test_what_is_no_tree_is_refused():
    with pytest.raises(AssertionError, match="shares with none"):
        PrefixTree((0, 1), (1, 1))
    with pytest.raises(AssertionError, match="once"):
        PrefixTree((0, 0), (0, 1))
    response = {"tokens": torch.arange(4), "trainable": torch.ones(4, dtype=torch.bool)}
    with pytest.raises(AssertionError, match="of its own"):
        Response(**response, forks=(Fork(0, 0),))
    with pytest.raises(AssertionError, match="forks from"):
        Response(**response, forks=(Fork(2, 3),))


def test_a_tree_of_other_tokens_is_found_out():
    [group] = make_groups([(3, [5, 5])])
    wrong = Group(prompt=group.prompt, responses=group.responses, tree=PrefixTree((0, 1), (0, 2)))
    with pytest.raises(AssertionError, match="equal tokens"):
        pack([wrong], 100)
