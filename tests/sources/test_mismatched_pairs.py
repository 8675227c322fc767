"""Mismatched pairs: every response once, never under its own prompt, the same for the same step."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from burnish.packing import count_denominators
from burnish.sources.mismatched_pairs import mismatched
from burnish.types import Fork, Group, Response
from tests.conftest import make_groups

SHAPES = st.lists(
    st.tuples(st.integers(1, 12), st.lists(st.integers(1, 9), min_size=1, max_size=3)), min_size=2, max_size=9
)


def contents(groups: list[Group]) -> list[tuple[list[int], list[list[int]]]]:
    return [(group.prompt.tolist(), [r.tokens.tolist() for r in group.responses]) for group in groups]


@given(shapes=SHAPES, seed=st.integers(0, 5), step=st.integers(0, 100))
def test_every_response_goes_to_another_group(shapes, seed, step):
    groups = make_groups(shapes, holes=True)
    for index, group in enumerate(groups):  # prompts and responses that tell their group
        group.prompt[0] = 100 + index
        for response in group.responses:
            response.tokens[0] = 100 + index
    drawn = mismatched(groups, seed=seed, step=step)
    assert [group.prompt.tolist() for group in drawn] == [group.prompt.tolist() for group in groups]
    owners = [{int(response.tokens[0]) for response in group.responses} for group in drawn]
    assert all(owner != {100 + index} and len(owner) == 1 for index, owner in enumerate(owners))
    given_out = Counter(tuple(tokens) for _, responses in contents(drawn) for tokens in responses)
    assert given_out == Counter(tuple(tokens) for _, responses in contents(groups) for tokens in responses)


@given(prompts=st.lists(st.integers(0, 3), min_size=1, max_size=12), seed=st.integers(0, 5), step=st.integers(0, 100))
def test_no_response_goes_to_its_own_prompt(prompts, seed, step):
    """Rows of one prompt, as made of pairs: as many responses as possible go to another prompt, each once."""
    groups = make_groups([(3, [2])] * len(prompts))
    for index, (group, prompt) in enumerate(zip(groups, prompts, strict=True)):
        group.prompt[:] = prompt
        group.responses[0].tokens[0] = 100 + index
    drawn = mismatched(groups, seed=seed, step=step)
    owners = [int(group.responses[0].tokens[0]) - 100 for group in drawn]
    assert len(set(owners)) == len(owners)
    assert all(int(group.prompt[0]) != prompts[owner] for group, owner in zip(drawn, owners, strict=True))
    most = max(Counter(prompts).values())
    if 2 * most <= len(prompts):
        assert len(drawn) == len(prompts)
    else:
        assert len(drawn) >= 2 * (len(prompts) - most)


def test_the_draw_depends_on_seed_and_step_alone():
    groups = make_groups([(3, [4])] * 9)
    assert contents(mismatched(groups, seed=1, step=2)) == contents(mismatched(groups, seed=1, step=2))
    assert contents(mismatched(groups, seed=1, step=2)) != contents(mismatched(groups, seed=1, step=3))
    assert contents(mismatched(groups, seed=1, step=2)) != contents(mismatched(groups, seed=2, step=2))


def test_they_are_measured_and_forget_what_another_prompt_gave_them():
    groups = make_groups([(3, [4]), (2, [6])], holes=True)
    drawn = mismatched(groups, seed=0, step=0)
    assert all(group.scored_only for group in drawn)
    assert sum(count_denominators(drawn).values()) == 0
    for group, other in zip(drawn, reversed(groups), strict=True):
        [mine], [theirs] = group.responses, other.responses
        assert mine.reference_logprobs is None
        assert mine.reward is None
        assert torch.equal(mine.trainable, theirs.trainable)
        assert torch.equal(mine.weights, theirs.weights)


def test_a_response_that_is_too_long_loses_its_end():
    groups = make_groups([(8, [2]), (2, [8])])
    first, second = mismatched(groups, seed=0, step=0, max_length=10)
    assert [len(first.responses[0].tokens), len(second.responses[0].tokens)] == [2, 2]
    assert first.responses[0].tokens.tolist() == groups[1].responses[0].tokens[:2].tolist()


@pytest.mark.parametrize(
    ("room", "kept"), [(40, [40, 30]), (39, [39]), (10, [10]), (None, [40, 30, 90]), (90, [40, 30, 90])]
)
def test_of_several_texts_the_first_that_fit_are_kept(room, kept):
    """A later text may be shorter than the one before it; none is longer than the room."""
    response = Response(
        tokens=torch.arange(40 + 20 + 80),
        trainable=torch.ones(140, dtype=torch.bool),
        forks=(Fork(40, 10), Fork(60, 10)),
    )
    prompt = torch.arange(5)
    groups = [Group(prompt=prompt + n, responses=(response,)) for n in range(2)]
    found = mismatched(groups, seed=0, step=0, max_length=None if room is None else room + 5)[0].responses[0]
    assert [len(sequence) for sequence in found.sequences] == kept
    assert found.tokens.tolist() == response.tokens[: len(found.tokens)].tolist()


def test_one_group_has_no_other():
    assert mismatched(make_groups([(3, [4])]), seed=0, step=0) == []
