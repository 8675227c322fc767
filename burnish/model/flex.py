"""Packed attention as one FlexAttention call, on CUDA.

Called by `attention`; computes the same as `segments`. On a CPU it runs uncompiled and forward only, which the tests
use.
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
"""Smallest head size for which FlexAttention of torch 2.13 compiles."""


def attend_flex(query: Tensor, key: Tensor, value: Tensor, layout: Layout, options: AttentionOptions) -> Tensor:
    """Attention of a packed row, as `segments.attend_segments`, in one call.

    With sinks, the output is scaled by Σ exp(score) / (exp(sink) + Σ exp(score)) = sigmoid(lse − sink).
    """
    output, aux = _compiled_flex()(
        query,
        key,
        value,
        score_mod=None if options.softcap is None else _capped(options.softcap),
        block_mask=_block_mask(layout, options.window, options.chunk),
        scale=options.scaling,
        enable_gqa=query.shape[1] != key.shape[1],
        return_aux=AuxRequest(lse=options.sinks is not None),
    )
    if options.sinks is None:
        return output
    assert aux.lse is not None, "the log-sum-exp was requested"
    share = torch.sigmoid(aux.lse - options.sinks.to(aux.lse.dtype)[None, :, None])
    return output * share[..., None].to(output.dtype)


def _capped(softcap: float) -> Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]:
    """FlexAttention's score function of (score, batch, head, query index, key index) for a soft-cap."""

    def cap(score: Tensor, _batch: Tensor, _head: Tensor, _row: Tensor, _column: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    return cap


def layout_mask(
    layout: Layout, window: int | None, chunk: int | None = None
) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """FlexAttention's mask function of (batch, head, query index, key index) for a layout, window and chunk."""

    def visible(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        distance = layout.positions[query] - layout.positions[key]
        branch = layout.branch[key]
        same_sequence = (layout.group[query] == layout.group[key]) & ((branch == 0) | (branch == layout.branch[query]))
        mask = same_sequence & (distance >= 0)
        if window is not None:
            mask = mask & (distance < window)
        if chunk is not None:
            mask = mask & (layout.positions[query] // chunk == layout.positions[key] // chunk)
        return mask

    return visible


@cache
def _compiled_flex() -> Callable[..., tuple[Tensor, AuxOutput]]:
    """Compiled on first use, since `torch.compile` imports the whole compiler."""
    return torch.compile(flex_attention, dynamic=True)


@cache
def _compiled_create() -> Callable[..., BlockMask]:
    """Compiled, since uncompiled it would materialize a mask of tokens × tokens."""
    return torch.compile(create_block_mask, dynamic=True)


_masks: dict[tuple[Layout, int | None, int | None], BlockMask] = {}


def _block_mask(layout: Layout, window: int | None, chunk: int | None) -> BlockMask:
    """Block masks of the latest layout, by window and chunk; layers of one forward and its recomputation share them."""
    if not any(cached is layout for cached, *_ in _masks):
        _masks.clear()
    if (layout, window, chunk) not in _masks:
        size, device = len(layout.positions), layout.positions.device
        create = _compiled_create() if device.type == "cuda" else create_block_mask
        mask = layout_mask(layout, window, chunk)
        _masks[layout, window, chunk] = create(mask, None, None, size, size, device.type)
    return _masks[layout, window, chunk]
