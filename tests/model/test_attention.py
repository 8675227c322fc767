"""The two kernels of packed attention have one meaning, and it is that of the formula."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

from burnish.layout import Layout
from burnish.model import attention, flex
from burnish.model.attention_options import AttentionOptions
from burnish.model.segments import attend_segments
from burnish.packing import pack
from tests.conftest import make_groups
from tests.trees import grown

HEADS, KEY_HEADS, SIZE, VALUE_SIZE = 4, 2, 8, 6
SINKS = torch.tensor([0.7, -1.2, 2.0, 0.0], dtype=torch.float64)
OPTIONS = {
    "plain": AttentionOptions(),
    "scaled": AttentionOptions(scaling=0.3),
    "window": AttentionOptions(window=4),
    "wide window": AttentionOptions(window=9, scaling=0.3),
    "chunk": AttentionOptions(chunk=5),
    "soft-cap": AttentionOptions(softcap=0.5),
    "soft-cap, window": AttentionOptions(softcap=0.5, window=4, scaling=0.3),
    "sinks": AttentionOptions(sinks=SINKS),
    "sinks, window": AttentionOptions(sinks=SINKS, window=4, scaling=0.3),
    "sinks, chunk": AttentionOptions(sinks=SINKS, chunk=5),
    "sinks, soft-cap": AttentionOptions(sinks=SINKS, softcap=0.5),
}


def packed_layout(trees: bool = False) -> Layout:
    """Of groups; with trees, contexts have several pieces."""
    groups = make_groups([(9, [3, 12, 1]), (1, [8]), (15, [2, 2])])
    [microbatch] = pack(grown(groups, forks=True) if trees else groups, 200)
    assert trees == any(len(segment.context) > 1 for segment in microbatch.layout.segments)
    return microbatch.layout


def random_inputs(rows: int, value_size: int = SIZE) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, HEADS, rows, SIZE), (1, KEY_HEADS, rows, SIZE), (1, KEY_HEADS, rows, value_size)]
    return [torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_() for shape in shapes]


def formula(query: Tensor, key: Tensor, value: Tensor, layout: Layout, options: AttentionOptions) -> Tensor:
    """The docstring of `AttentionOptions`, written out over all rows and columns."""
    key, value = (tensor.repeat_interleave(HEADS // KEY_HEADS, dim=1) for tensor in (key, value))
    scores = query @ key.transpose(-1, -2) * (options.scaling or SIZE**-0.5)
    if options.softcap is not None:
        scores = options.softcap * torch.tanh(scores / options.softcap)
    row, column = layout.positions[:, None], layout.positions[None, :]
    sequence = layout.entry[:, None]
    seen = (layout.entry <= sequence) & (sequence <= layout.exit) & (row >= column)
    if options.window is not None:
        seen &= row - column < options.window
    if options.chunk is not None:
        seen &= row // options.chunk == column // options.chunk
    weights = scores.exp() * seen
    total = weights.sum(-1, keepdim=True)
    if options.sinks is not None:
        total = total + options.sinks.exp()[:, None, None]
    return weights / total @ value


@pytest.mark.parametrize("trees", [False, True], ids=["flat", "trees"])
@pytest.mark.parametrize("name", OPTIONS)
def test_segments_are_the_formula(name, trees):
    """Value and every gradient, also that of the sinks; values as wide as keys, or not."""
    layout, options = packed_layout(trees), OPTIONS[name]
    for value_size in (SIZE, VALUE_SIZE):
        inputs = random_inputs(len(layout.positions), value_size)
        sinks = SINKS.clone().requires_grad_()
        if options.sinks is not None:
            options = AttentionOptions(options.scaling, options.window, options.chunk, options.softcap, sinks)
            inputs.append(sinks)
        packed, expected = (attend(*inputs[:3], layout, options) for attend in (attend_segments, formula))
        assert torch.allclose(packed, expected, rtol=0, atol=1e-12)
        direction = torch.randn(packed.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        mine, theirs = (torch.autograd.grad((output * direction).sum(), inputs) for output in (packed, expected))
        for mine_each, theirs_each in zip(mine, theirs, strict=True):
            assert torch.allclose(mine_each, theirs_each, rtol=0, atol=1e-11)


@pytest.mark.parametrize("trees", [False, True], ids=["flat", "trees"])
@pytest.mark.parametrize("name", OPTIONS)
def test_flex_attention_equals_segments(monkeypatch, name, trees):
    """The CUDA kernel's function, uncompiled on the CPU, against the loop over segments; keys shared by two heads."""
    monkeypatch.setattr(flex, "_compiled_flex", lambda: flex._attend)
    layout, options = packed_layout(trees), OPTIONS[name]
    inputs = [tensor.detach() for tensor in random_inputs(len(layout.positions))]
    segments = attend_segments(*inputs, layout, options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it would be faster compiled
        at_once = flex.attend_flex(*inputs, layout, options)
    assert torch.allclose(segments, at_once, rtol=0, atol=1e-12)


def test_a_sink_far_below_changes_nothing_and_one_far_above_takes_all():
    layout = packed_layout()
    inputs = random_inputs(len(layout.positions))
    low, high = (torch.full((HEADS,), score, dtype=torch.float64) for score in (-100.0, 100.0))
    plain = attend_segments(*inputs, layout, AttentionOptions())
    assert torch.allclose(attend_segments(*inputs, layout, AttentionOptions(sinks=low)), plain, rtol=0, atol=1e-12)
    assert attend_segments(*inputs, layout, AttentionOptions(sinks=high)).abs().max().item() < 1e-30


def test_a_cap_far_above_changes_nothing():
    layout = packed_layout()
    inputs = random_inputs(len(layout.positions))
    plain = attend_segments(*inputs, layout, AttentionOptions())
    assert torch.allclose(attend_segments(*inputs, layout, AttentionOptions(softcap=1e7)), plain, rtol=0, atol=1e-12)


def test_layers_of_one_forward_share_their_mask():
    """One block mask per layout, window and chunk; a new layout forgets the last."""
    first, second = (pack(make_groups([(5, [4])]), 50)[0].layout for _ in range(2))
    assert flex._block_mask(first, None, None) is flex._block_mask(first, None, None)
    assert flex._block_mask(first, None, None) is not flex._block_mask(first, 3, None)
    assert flex._block_mask(first, None, 3) is not flex._block_mask(first, 3, None)
    assert flex._block_mask(second, None, None) is not flex._block_mask(first, None, None)
    assert {layout for layout, *_ in flex._masks} == {first}


@pytest.mark.parametrize(
    ("mask", "layout"), [(torch.ones(1, 1, 2, 2), "given"), (None, None)], ids=["a mask", "no layout"]
)
def test_a_plain_forward_through_packed_attention_is_refused(mask, layout):
    [microbatch] = pack(make_groups([(1, [1])]), 10)
    tensor = torch.zeros(1, 1, 2, SIZE)
    with pytest.raises(attention.LayoutLostError):
        attention.segment_attention(
            torch.nn.Identity(), tensor, tensor, tensor, mask, layout=microbatch.layout if layout else None
        )
