"""Serialization of groups: every field of every record comes back, with its type and its bits."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
import torch

from burnish.packing import pack
from burnish.prefix_tree import Fork, PrefixTree
from burnish.rollouts.serialization import group_of, group_tensors, load_items, store_items
from burnish.streams import DECLARATIONS, STREAMS
from burnish.types import Group, MediaRef, Response
from tests.streams import numbers, same_bits


def full_response(dtype: torch.dtype) -> Response:
    """A response that has all that a response can have."""
    generator = torch.Generator().manual_seed(3)
    streams = {
        name: numbers(name, dtype if dtype in DECLARATIONS[name].dtypes else DECLARATIONS[name].dtypes[0], 4, generator)
        for name in STREAMS
    }
    return Response(
        tokens=torch.arange(4),
        trainable=torch.tensor([True, False, True, True]),
        weights=torch.rand(4, generator=generator),
        policy_version=torch.arange(4) + 2**40,
        reward=0.1,
        scores=(0.5, -2.0),
        bootstrap_value=-0.25,
        finish="length",
        forks=(Fork(1, 0), Fork(3, 1)),
        **streams,
    )


def full_group(dtype: torch.dtype) -> Group:
    return Group(
        prompt=torch.tensor([5, 6, 7]),
        responses=(full_response(dtype), Response(tokens=torch.tensor([0, 1, 2]), trainable=torch.ones(3).bool())),
        tree=PrefixTree((1, 0), (0, 1)),
        prompt_weights=torch.tensor([0.0, 0.1, 2.0]),
        scored_only=True,
        media=(MediaRef("image", "/a.png", (0, 1), "ab", 4), MediaRef("image", "/b.png", (1, 2), "cd")),
        metadata={"file": "a.jsonl", "line": 3, "tags": ["x", "y"]},
    )


def assert_equal(one: object, other: object) -> None:
    """Field by field, in records and tuples of records."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert same_bits(one, other)
    elif isinstance(one, Group | Response):
        for entry in fields(one):
            assert_equal(getattr(one, entry.name), getattr(other, entry.name))
    elif isinstance(one, tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_equal(a, b)
    else:
        assert one == other


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_group_comes_back_bit_for_bit(dtype):
    group = full_group(dtype)
    empty = {entry.name for entry in fields(Response) if getattr(group.responses[0], entry.name) is None}
    assert not empty, "a new field is tested too"
    tensors, values = group_tensors(group)
    assert_equal(group_of(tensors, json.loads(json.dumps(values))), group)


def test_items_come_back_in_their_order():
    """Items of one group and of several, under names of their own among other tensors."""
    one, other = full_group(torch.float32), full_group(torch.float64)
    items = [(one,), (other, one), (one, other)]
    tensors, values = store_items(items, "pending")
    found = load_items({**tensors, "replay/0/0/prompt": one.prompt}, json.loads(json.dumps(values)), "pending")
    assert [len(item) for item in found] == [1, 2, 2]
    for item, expected in zip(found, items, strict=True):
        assert_equal(item, expected)


def test_tensors_are_named_by_their_path_and_not_copied():
    group = full_group(torch.float32)
    tensors, values = group_tensors(group)
    assert tensors["responses/0/teacher_topk_tokens"] is group.responses[0].teacher_topk_tokens
    assert {path for path in tensors if path.startswith("responses/1/")} == {
        "responses/1/tokens",
        "responses/1/trainable",
    }
    assert values["responses"][1] == {}
    assert values["media"][0] == {
        "kind": "image",
        "source": "/a.png",
        "span": [0, 1],
        "digest": "ab",
        "num_patches": 4,
    }


def test_a_packed_group_has_its_images_with_the_place_of_their_prompt():
    response = Response(tokens=torch.tensor([4, 5]), trainable=torch.tensor([True, True]))
    group = Group(prompt=torch.tensor([1, 2, 3]), responses=(response,), media=full_group(torch.float32).media)
    [microbatch] = pack([group, group], 1000)
    half = group.num_tokens
    assert [image.start for image in microbatch.media] == [0, 0, half, half]
    assert [image.positions.tolist() for image in microbatch.media] == [[0], [1], [half], [half + 1]]
    assert [image.medium for image in microbatch.media] == [*group.media, *group.media]
