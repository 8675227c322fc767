"""Packed attention as one FlexAttention call: CUDA.

Stands behind `attention`, beside `segments`; both have one meaning. On a CPU it is correct too, uncompiled and forward
only: so it is tested.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from burnish.model.extras import Extras
from burnish.types import Layout

SMALLEST_HEAD = 16
"""FlexAttention of torch 2.13 compiles for no smaller head."""


def attend_flex(query: Tensor, key: Tensor, value: Tensor, layout: Layout, extras: Extras) -> Tensor:
    """As `segments.attend_segments`, in one call."""
    return _compiled_flex()(
        query,
        key,
        value,
        block_mask=_block_mask(layout, extras.window),
        scale=extras.scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def layout_mask(layout: Layout, window: int | None) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """The rule of `Layout` as FlexAttention's mask function of (batch, head, query row, key row)."""

    def visible(_batch: Tensor, _head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        distance = layout.positions[row] - layout.positions[column]
        branch = layout.branch[column]
        same = (layout.group[row] == layout.group[column]) & ((branch == 0) | (branch == layout.branch[row]))
        seen = same & (distance >= 0)
        return seen if window is None else seen & (distance < window)

    return visible


@cache
def _compiled_flex() -> Callable[..., Tensor]:
    """Compiled on first use: naming `torch.compile` alone imports the whole compiler."""
    return torch.compile(flex_attention, dynamic=True)


@cache
def _compiled_create() -> Callable[..., BlockMask]:
    """Uncompiled, it would materialise a mask of rows × rows."""
    return torch.compile(create_block_mask, dynamic=True)


_masks: dict[tuple[Layout, int | None], BlockMask] = {}


def _block_mask(layout: Layout, window: int | None) -> BlockMask:
    """Block masks of the newest layout, one per window: the layers of one forward and its recomputation share them."""
    if not any(known is layout for known, _ in _masks):
        _masks.clear()
    if (layout, window) not in _masks:
        rows, device = len(layout.positions), layout.positions.device
        create = _compiled_create() if device.type == "cuda" else create_block_mask
        _masks[layout, window] = create(layout_mask(layout, window), None, None, rows, rows, device.type)
    return _masks[layout, window]
