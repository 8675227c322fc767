"""The two kernels of packed attention have one meaning."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention

from burnish.model import attention, flex
from burnish.model.extras import Extras
from burnish.model.segments import attend_segments
from burnish.packing import pack
from tests.conftest import make_groups

HEADS, KEY_HEADS, SIZE = 4, 2, 8


@pytest.mark.parametrize("window", [None, 4, 9])
@pytest.mark.parametrize("scaling", [None, 0.3])
def test_flex_attention_equals_segments(monkeypatch, window, scaling):
    """The CUDA kernel's function, uncompiled on the CPU, against the loop over segments; keys shared by two heads."""
    monkeypatch.setattr(flex, "_compiled_flex", lambda: flex_attention)
    [microbatch] = pack(make_groups([(9, [3, 12, 1]), (1, [8]), (15, [2, 2])]), 200)
    rows = len(microbatch.tokens)
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, HEADS, rows, SIZE, dtype=torch.float64, generator=generator)
    key, value = (torch.randn(1, KEY_HEADS, rows, SIZE, dtype=torch.float64, generator=generator) for _ in range(2))
    segments = attend_segments(query, key, value, microbatch.layout, Extras(scaling, window))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it would be faster compiled
        at_once = flex.attend_flex(query, key, value, microbatch.layout, Extras(scaling, window))
    assert torch.allclose(segments, at_once, rtol=0, atol=1e-12)


def test_layers_of_one_forward_share_their_mask():
    """One block mask per layout and window; a new layout forgets the last."""
    first, second = (pack(make_groups([(5, [4])]), 50)[0].layout for _ in range(2))
    assert flex._block_mask(first, None) is flex._block_mask(first, None)
    assert flex._block_mask(first, None) is not flex._block_mask(first, 3)
    assert flex._block_mask(second, None) is not flex._block_mask(first, None)
    assert {layout for layout, _ in flex._masks} == {first}


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
