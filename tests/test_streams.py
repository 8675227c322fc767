"""Streams: every scored token carries exactly the numbers of its response's token, however it was packed or stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.microbatch import join
from burnish.packing import pack, pack_singly
from burnish.rollouts.serialization import group_of, group_tensors
from burnish.streams import DECLARATIONS, STREAMS, present_streams, spread, with_stream
from burnish.types import Group, Microbatch, Response
from tests.conftest import make_groups
from tests.streams import numbers, same_bits

SHAPES = st.lists(
    st.tuples(st.integers(1, 8), st.lists(st.integers(1, 6), min_size=1, max_size=5)), min_size=1, max_size=5
)
CPU = torch.device("cpu")
WAYS: dict[str, Callable[[list[Group], int], list[Microbatch]]] = {
    "shared": pack,
    "unshared": lambda groups, budget: pack(groups, budget, share=False),
    "one by one": lambda groups, _: pack_singly(groups),
    "joined": lambda groups, budget: [join(pack(groups, budget))],
    "joined unshared": lambda groups, budget: [join(pack(groups, budget, share=False))],
    "groups joined": lambda groups, budget: [
        join([part for index, group in enumerate(groups) for part in pack([group], budget, start=index)])
    ],
    "moved": lambda groups, budget: [microbatch.to(CPU) for microbatch in pack(groups, budget)],
    "stored as tensors": lambda groups, budget: pack([restored(group) for group in groups], budget),
}


def as_json(value: object) -> dict[str, object]:
    return json.loads(json.dumps(value))


def restored(group: Group) -> Group:
    tensors, values = group_tensors(group)
    return group_of(tensors, as_json(values))


def with_numbers(groups: list[Group], name: str, dtype: torch.dtype, has: Callable[[], bool]) -> list[Group]:
    """The groups, of which some responses have the stream."""
    generator = torch.Generator().manual_seed(len(name))

    def filled(response: Response) -> Response:
        stream = numbers(name, dtype, len(response.tokens), generator)
        return with_stream(response, name, stream) if has() else response

    return [replace(group, responses=tuple(map(filled, group.responses))) for group in groups]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=12)
@given(shapes=SHAPES, budget=st.sampled_from([1, 12, 25, 1000]), data=st.data())
def test_scored_tokens_carry_the_numbers_of_their_tokens(name, way, shapes, budget, data):
    dtype = data.draw(st.sampled_from(DECLARATIONS[name].dtypes))
    groups = with_numbers(make_groups(shapes, holes=True), name, dtype, lambda: data.draw(st.booleans()))
    groups[0] = replace(groups[0], prompt_weights=(torch.arange(len(groups[0].prompt)) > 0).float())
    streams = [[getattr(response, name) for response in group.responses] for group in groups]
    seen = 0
    for microbatch in WAYS[way](groups, budget):
        found = getattr(microbatch, name)
        members = list(zip(microbatch.sequence_group.tolist(), microbatch.sequence_index.tolist(), strict=True))
        if all(streams[g][i] is None for g, i in members):
            assert found is None
            continue
        assert len(found) == len(microbatch.targets)
        for row, (sequence, position) in enumerate(
            zip(microbatch.sequence.tolist(), microbatch.response_positions.tolist(), strict=True)
        ):
            g, i = members[sequence]
            if streams[g][i] is None or position < 0:
                assert same_bits(found[row], torch.zeros_like(found[row]))
                continue
            scored = streams[g][i][groups[g].responses[i].trainable]
            assert same_bits(found[row], scored[position])
            seen += 1
    present = [r for group in groups for r in group.responses if getattr(r, name) is not None]
    assert seen == sum(int(response.trainable.sum()) for response in present)


@pytest.mark.parametrize("name", STREAMS)
def test_a_device_gets_every_stream(name):
    groups = with_numbers(make_groups([(3, [4, 2])]), name, DECLARATIONS[name].dtypes[0], lambda: True)
    [microbatch] = pack(groups, 100)
    moved = microbatch.to(torch.device("meta"))
    assert getattr(moved, name).device.type == "meta"
    assert (getattr(moved, name).shape, getattr(moved, name).dtype) == (
        getattr(microbatch, name).shape,
        getattr(microbatch, name).dtype,
    )


@pytest.mark.parametrize("record", [Response, Microbatch])
def test_both_records_have_all_streams_and_no_stream_of_their_own(record):
    assert set(STREAMS) < {entry.name for entry in fields(record)}
    assert [entry.name for entry in fields(record) if entry.metadata] == list(STREAMS)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_is_not_as_declared_is_refused(name):
    [group] = make_groups([(3, [4])])
    [response], [dtype, *_] = group.responses, DECLARATIONS[name].dtypes
    generator = torch.Generator().manual_seed(0)
    good = numbers(name, dtype, 4, generator)
    assert present_streams(with_stream(response, name, good)) == {name: good}
    wrong = {
        "is aligned with 4 tokens": numbers(name, dtype, 3, generator),
        "axes": good[..., None],
        f"{name} is one of": good.to(torch.float16 if dtype.is_floating_point else torch.int32),
    }
    for message, stream in wrong.items():
        with pytest.raises(AssertionError, match=message):
            with_stream(response, name, stream)
    [microbatch] = pack([group], 100)
    with pytest.raises(AssertionError, match="is aligned with 4 tokens"):
        replace(microbatch, **{name: numbers(name, dtype, 5, generator)})


def test_only_a_declared_stream_is_replaced():
    [group] = make_groups([(3, [4])])
    with pytest.raises(AssertionError, match="a stream is one of"):
        with_stream(group.responses[0], "weights", torch.ones(4))


def test_one_number_of_candidates_in_a_microbatch():
    groups = make_groups([(3, [4]), (2, [3])])
    generator = torch.Generator().manual_seed(0)
    name = "teacher_topk_tokens"
    groups = [
        replace(group, responses=(with_stream(r, name, numbers(name, torch.int64, len(r.tokens), generator, k)),))
        for k, group in zip((2, 3), groups, strict=True)
        for r in group.responses
    ]
    with pytest.raises(AssertionError, match="one shape in a microbatch"):
        pack(groups, 100)


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_spreading_is_the_inverse_of_selection(shape):
    trainable = torch.tensor([False, True, True, False, True])
    values = torch.randn(3, *shape)
    stream = spread(values, trainable)
    assert torch.equal(stream[trainable], values)
    assert torch.equal(stream[~trainable], torch.zeros(2, *shape))
