"""Packing: nothing is lost, nothing is padded, budgets hold, and it is the same every time."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import create_mask

from burnish.layout import Layout
from burnish.microbatch import CostModel, Part, join
from burnish.model.flex import layout_mask
from burnish.packing import count_denominators, pack, pack_singly
from burnish.types import Denominator, Group, Microbatch, Response
from tests.conftest import make_groups

SHAPES = st.lists(
    st.tuples(st.integers(1, 12), st.lists(st.integers(1, 9), min_size=1, max_size=9)), min_size=1, max_size=8
)
COSTS = st.sampled_from([CostModel(), CostModel(3.0, 0.5), CostModel(0.0, 1.0)])


def sequences(microbatches: list[Microbatch]) -> list[tuple[int, tuple[int, ...]]]:
    """(group, tokens with the prompt) of every response of flat groups, read back from the packed rows."""
    found = []
    for microbatch in microbatches:
        assert int(microbatch.layout.exit.max()) + 1 == microbatch.num_sequences
        for sequence, group in enumerate(microbatch.sequence_group.tolist()):
            found.append((group, tuple(microbatch.tokens[rows_of(microbatch.layout, sequence)].tolist())))
    return found


def rows_of(layout: Layout, sequence: int) -> torch.Tensor:
    """Packed positions of a sequence, in its order."""
    rows = ((layout.entry <= sequence) & (sequence <= layout.exit)).nonzero()[:, 0]
    assert torch.equal(layout.positions[rows], torch.arange(len(rows)))
    return rows


def expected_sequences(groups: list[Group]) -> list[tuple[int, tuple[int, ...]]]:
    return [
        (index, tuple(torch.cat([group.prompt, response.tokens]).tolist()))
        for index, group in enumerate(groups)
        for response in group.responses
    ]


def smallest_budget(groups: list[Group]) -> int:
    return max(len(group.prompt) + len(r.tokens) for group in groups for r in group.responses)


@given(shapes=SHAPES, slack=st.integers(0, 60), share=st.booleans(), cost=COSTS)
def test_every_response_is_packed_once_within_the_budget(shapes, slack, share, cost):
    groups = make_groups(shapes, holes=True)
    budget = smallest_budget(groups) + slack
    microbatches = pack(groups, budget, cost, share)
    assert sorted(sequences(microbatches)) == sorted(expected_sequences(groups))
    assert all(len(microbatch.tokens) <= budget for microbatch in microbatches)


@given(shapes=SHAPES, slack=st.integers(0, 60), cost=COSTS)
def test_the_same_groups_pack_the_same(shapes, slack, cost):
    first, second = (pack(make_groups(shapes), smallest_budget(make_groups(shapes)) + slack, cost) for _ in range(2))
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.tokens, b.tokens)
        assert torch.equal(a.predictor_positions, b.predictor_positions)
        assert a.layout.segments == b.layout.segments


@given(shapes=SHAPES, slack=st.integers(0, 60))
def test_scored_tokens_are_predicted_by_the_token_before_them(shapes, slack):
    """Both are in the sequence, at positions one apart."""
    groups = make_groups(shapes, holes=True)
    for microbatch in pack(groups, smallest_budget(groups) + slack):
        scored = (microbatch.predictor_positions, microbatch.token_positions, microbatch.targets, microbatch.sequence)
        for predictor, row, target, sequence in zip(*(tensor.tolist() for tensor in scored), strict=True):
            rows = rows_of(microbatch.layout, sequence).tolist()
            assert rows.index(row) == rows.index(predictor) + 1
            assert microbatch.tokens[row] == target


@given(shapes=SHAPES, slack=st.integers(0, 60))
def test_rounds_partition_the_scored_tokens_without_duplicate_rows(shapes, slack):
    groups = make_groups(shapes, holes=True)
    for microbatch in pack(groups, smallest_budget(groups) + slack):
        together = torch.cat([*microbatch.gather_rounds, torch.empty(0, dtype=torch.int64)])
        assert sorted(together.tolist()) == list(range(len(microbatch.predictor_positions)))
        for indices in microbatch.gather_rounds:
            rows = microbatch.predictor_positions[indices]
            assert len(rows.unique()) == len(rows)


@given(shapes=SHAPES, slack=st.integers(0, 60), share=st.booleans())
def test_denominators_do_not_depend_on_packing(shapes, slack, share):
    groups = make_groups(shapes, holes=True)
    counted = count_denominators(groups)
    microbatches = pack(groups, smallest_budget(groups) + slack, share=share)
    assert counted[Denominator.TOKENS] == sum(len(m.targets) for m in microbatches)
    assert counted[Denominator.WEIGHT] == pytest.approx(sum(float(m.weights.double().sum()) for m in microbatches))
    assert counted[Denominator.SEQUENCES] == sum(m.num_sequences for m in microbatches)
    assert counted[Denominator.GROUPS] == len(groups)
    for microbatch in microbatches:
        lengths = torch.bincount(microbatch.sequence, minlength=microbatch.num_sequences)
        assert torch.equal(lengths, microbatch.sequence_tokens)


def visible_by_definition(layout: Layout, window: int | None) -> torch.Tensor:
    """Segment by segment, as `Segment` says it."""
    rows = len(layout.positions)
    visible = torch.zeros(rows, rows, dtype=torch.bool)
    for segment in layout.segments:
        for i in range(segment.start, segment.start + segment.length):
            visible[i, segment.start : i + 1] = True
            for start, length in segment.context:
                visible[i, start : start + length] = True
    if window is not None:
        visible &= layout.positions[:, None] - layout.positions[None, :] < window
    return visible


@settings(max_examples=30)
@given(shapes=SHAPES, slack=st.integers(0, 60), window=st.sampled_from([None, 1, 5]))
def test_both_kernels_are_told_the_same_visibility(shapes, slack, window):
    """The mask function of FlexAttention (CUDA) says what the segments (CPU) say."""
    groups = make_groups(shapes)
    for microbatch in pack(groups, smallest_budget(groups) + slack):
        rows = len(microbatch.tokens)
        mask = create_mask(layout_mask(microbatch.layout, window), 1, 1, rows, rows, device="cpu")[0, 0]
        assert torch.equal(mask, visible_by_definition(microbatch.layout, window))


def test_microbatches_are_balanced_by_cost():
    """Twelve short ones and a long one whose attention outweighs them: it is alone, though there is room beside it."""
    cost = CostModel(per_token=1.0, per_pair=1.0)
    groups = make_groups([(1, [29])] + [(1, [4])] * 12)
    microbatches = pack(groups, 60, cost)
    loads = [sum(Part(groups[g], g).cost(cost) for g in m.sequence_group.unique().tolist()) for m in microbatches]
    assert len(microbatches) == 2
    assert max(loads) == Part(groups[0], 0).cost(cost)


def test_a_shared_prompt_costs_once():
    [group] = make_groups([(100, [10] * 8)])
    assert Part(group, 0).num_tokens == 180
    assert sum(part.num_tokens for part in group.expanded()) == 880
    segments_pairs = Part(group, 0).cost(CostModel(0.0, 1.0))
    assert segments_pairs == 110 * 111 / 2 + 7 * (10 * 11 / 2 + 10 * 100)


def test_streams_travel_with_their_tokens():
    """A stream that only some responses have is 0 for the others; one that none has is None."""
    with_stream, without = make_groups([(3, [4]), (2, [3])], holes=True)
    [response] = with_stream.responses
    advantages = torch.arange(4.0)
    groups = [replace(with_stream, responses=(replace(response, advantages=advantages),)), without]
    [microbatch] = pack(groups, 100)
    first = microbatch.sequence == 0
    assert torch.equal(microbatch.advantages[first], advantages[response.trainable])
    assert float(microbatch.advantages[~first].abs().sum()) == 0
    assert microbatch.values is None


def test_a_sequence_longer_than_the_budget_is_the_budget():
    """How long rows are is not known when a run begins: a memory knob may not end it."""
    groups = make_groups([(6, [5]), (2, [3]), (4, [2, 9])])
    same = zip(pack(groups, 10), pack(groups, 13), strict=True)
    assert all(torch.equal(one.tokens, other.tokens) for one, other in same)
    assert max(len(microbatch.tokens) for microbatch in pack(groups, 10)) <= 13


def judged(groups: list[Group]) -> list[Group]:
    """With rewards that tell every response of the step, and every third one not judged."""
    counter = iter(range(10**6))

    def judge(response: Response) -> Response:
        index = next(counter)
        return replace(response, reward=None if index % 3 == 2 else float(index))

    return [replace(group, responses=tuple(judge(r) for r in group.responses)) for group in groups]


@given(shapes=SHAPES, slack=st.integers(0, 60), share=st.booleans(), start=st.integers(0, 5))
def test_a_response_knows_its_group_wherever_it_is(shapes, slack, share, start):
    groups = judged(make_groups(shapes, holes=True))
    found = {}
    for microbatch in pack(groups, smallest_budget(groups) + slack, share=share, start=start):
        facts = zip(
            microbatch.sequence_group.tolist(),
            microbatch.sequence_index.tolist(),
            microbatch.sequence_siblings.tolist(),
            microbatch.sequence_reward.tolist(),
            strict=True,
        )
        found |= {(group - start, index): (siblings, reward) for group, index, siblings, reward in facts}
    for g, group in enumerate(groups):
        for k, response in enumerate(group.responses):
            siblings, reward = found.pop((g, k))
            assert siblings == len(group.responses)
            assert reward == response.reward or (math.isnan(reward) and response.reward is None)
    assert not found


@given(shapes=SHAPES, slack=st.integers(0, 60), share=st.booleans())
def test_members_are_the_table_of_groups(shapes, slack, share):
    groups = make_groups(shapes, holes=True)
    for microbatch in pack(groups, smallest_budget(groups) + slack, share=share):
        here = sorted(set(microbatch.sequence_group.tolist()))
        sizes = [len(groups[g].responses) for g in here]
        for row, g in enumerate(here):
            for k in range(max(sizes)):
                at = (microbatch.sequence_group == g) & (microbatch.sequence_index == k)
                expected = int(at.nonzero()) if at.any() else -1
                assert int(microbatch.group_table[row, k]) == expected
        assert microbatch.groups_complete == (microbatch.num_sequences == sum(sizes))


def test_places_count_the_scored_tokens_of_a_response():
    [group] = make_groups([(4, [5, 3])])
    holes = torch.tensor([True, False, True, True, False])
    first = replace(group.responses[0], trainable=holes)
    group = replace(group, responses=(first, group.responses[1]), prompt_weights=torch.tensor([0.0, 2, 0, 2]))
    [microbatch] = pack([group], 100)
    assert microbatch.response_positions.tolist() == [-1, -1, 0, 1, 2, 0, 1, 2]


@given(shapes=SHAPES, share=st.booleans())
def test_groups_that_fit_stay_whole(shapes, share):
    groups = make_groups(shapes)
    unshared = [sum(len(group.prompt) + len(r.tokens) for r in group.responses) for group in groups]
    assert all(microbatch.groups_complete for microbatch in pack(groups, max(unshared), share=share))


@given(shapes=SHAPES, slack=st.integers(0, 30), share=st.booleans())
def test_joined_microbatches_are_one_microbatch(shapes, slack, share):
    """Of which all that is said of microbatches holds, and nothing is lost."""
    groups = judged(make_groups(shapes, holes=True))
    parts = pack(groups, smallest_budget(groups) + slack, share=share)
    joined = join(parts)
    assert joined.groups_complete
    assert sequences([joined]) == [sequence for part in parts for sequence in sequences([part])]
    starts = torch.repeat_interleave(joined.sequence_tokens.cumsum(0) - joined.sequence_tokens, joined.sequence_tokens)
    assert torch.equal(joined.response_positions, torch.arange(len(joined.predictor_positions)) - starts)
    for indices in joined.gather_rounds:
        assert len(joined.predictor_positions[indices].unique()) == len(indices)
    assert sorted(torch.cat(joined.gather_rounds).tolist()) == list(range(len(joined.predictor_positions)))
    rows = len(joined.tokens)
    mask = create_mask(layout_mask(joined.layout, None), 1, 1, rows, rows, device="cpu")[0, 0]
    assert torch.equal(mask, visible_by_definition(joined.layout, None))


def test_a_stream_that_some_microbatches_have_is_joined():
    with_stream, without = make_groups([(3, [4]), (2, [3])])
    [response] = with_stream.responses
    with_stream = replace(with_stream, responses=(replace(response, reference_logprobs=torch.arange(4.0)),))
    joined = join([*pack([with_stream], 100), *pack([without], 100, start=1)])
    assert joined.reference_logprobs.tolist() == [0, 1, 2, 3, 0, 0, 0]
    assert joined.values is None


def test_measured_groups_count_in_no_denominator():
    first, second = judged(make_groups([(3, [4, 2]), (2, [3])], holes=True))
    assert count_denominators([first, replace(second, scored_only=True)]) == count_denominators([first])


def test_wanted_and_unwanted_are_counted_apart_and_best_responses_alone():
    groups = judged(make_groups([(3, [4, 2]), (2, [3])]))
    counted = count_denominators(groups)
    assert (counted[Denominator.UNDESIRABLE], counted[Denominator.DESIRABLE]) == (1, 1)
    best = sum(float(group.responses[0].weights.double().sum()) for group in groups)
    assert counted[Denominator.CHOSEN_WEIGHT] == pytest.approx(best)


@given(shapes=SHAPES)
def test_singly_packed_is_one_response_at_a_time(shapes):
    groups = make_groups(shapes, holes=True)
    microbatches = pack_singly(groups)
    assert sequences(microbatches) == expected_sequences(groups)
    assert all(microbatch.num_sequences == 1 for microbatch in microbatches)
