"""Packed attention as one FlexAttention call: CUDA.

Stands behind `attention`, beside `segments`; both have one meaning. On a CPU it is correct too, uncompiled and forward
only: so it is tested.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import (
    AuxOutput,
    AuxRequest,
    BlockMask,
    create_block_mask,
    flex_attention,
)

from burnish.model.attention_options import AttentionOptions
from burnish.types import Layout

SMALLEST_HEAD = 16
"""FlexAttention of torch 2.13 compiles for no smaller head."""


def attend_flex(query: Tensor, key: Tensor, value: Tensor, layout: Layout, extras: AttentionOptions) -> Tensor:
    """As `segments.attend_segments`, in one call.

    With sinks, what softmax gave is scaled by Σ exp(score) / (exp(sink) + Σ exp(score)) = sigmoid(lse − sink).
    """
    output, aux = _compiled_flex()(
        query,
        key,
        value,
        score_mod=None if extras.softcap is None else _capped(extras.softcap),
        block_mask=_block_mask(layout, extras.window, extras.chunk),
        scale=extras.scaling,
        enable_gqa=query.shape[1] != key.shape[1],
        return_aux=AuxRequest(lse=extras.sinks is not None),
    )
    if extras.sinks is None:
        return output
    assert aux.lse is not None, "the log-sum-exp was asked for"
    share = torch.sigmoid(aux.lse - extras.sinks.to(aux.lse.dtype)[None, :, None])
    return output * share[..., None].to(output.dtype)


def _capped(softcap: float) -> Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]:
    """FlexAttention's function of (score, batch, head, query row, key row)."""

    def cap(score: Tensor, _batch: Tensor, _head: Tensor, _row: Tensor, _column: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    return cap


def layout_mask(
    layout: Layout, window: int | None, chunk: int | None = None
) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """The rule of `Layout` and `AttentionOptions` as FlexAttention's mask function of (batch, head, query row, key
    row)."""

    def visible(_batch: Tensor, _head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        distance = layout.positions[row] - layout.positions[column]
        branch = layout.branch[column]
        same = (layout.group[row] == layout.group[column]) & ((branch == 0) | (branch == layout.branch[row]))
        seen = same & (distance >= 0)
        if window is not None:
            seen = seen & (distance < window)
        if chunk is not None:
            seen = seen & (layout.positions[row] // chunk == layout.positions[column] // chunk)
        return seen

    return visible


@cache
def _compiled_flex() -> Callable[..., tuple[Tensor, AuxOutput]]:
    """Compiled on first use: naming `torch.compile` alone imports the whole compiler."""
    return torch.compile(flex_attention, dynamic=True)


@cache
def _compiled_create() -> Callable[..., BlockMask]:
    """Uncompiled, it would materialise a mask of rows × rows."""
    return torch.compile(create_block_mask, dynamic=True)


_masks: dict[tuple[Layout, int | None, int | None], BlockMask] = {}


def _block_mask(layout: Layout, window: int | None, chunk: int | None) -> BlockMask:
    """Block masks of the newest layout, one per rule: the layers of one forward and its recomputation share them."""
    if not any(known is layout for known, *_ in _masks):
        _masks.clear()
    if (layout, window, chunk) not in _masks:
        rows, device = len(layout.positions), layout.positions.device
        create = _compiled_create() if device.type == "cuda" else create_block_mask
        rule = layout_mask(layout, window, chunk)
        _masks[layout, window, chunk] = create(rule, None, None, rows, rows, device.type)
    return _masks[layout, window, chunk]
