"""Packed attention as one FlexAttention call: CUDA.

Stands behind `attention`, beside `segments`; both have one meaning. On a CPU it is correct too, uncompiled and forward
only: so it is tested.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

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
VARIANTS = 64
"""Most kernels of one process. Every kind of layer (window, chunk, cap, sinks), every type, gradients or none, and one
block of 128 rows or several need their own; a new layout needs none. A model with two kinds of layers reaches torch's
own bound of 8, and what came after it would be computed uncompiled, with all scores of rows × rows."""

COMPILING: Mapping[str, Any] = {"dynamic": True, "fullgraph": True, "recompile_limit": VARIANTS}
"""How torch compiles it: for any number of rows, and never in part."""


def computes(query: Tensor, value: Tensor) -> bool:
    """Whether these [1, heads, N, D] are computed here: on CUDA, in types and sizes that Triton multiplies."""
    wide = min(query.shape[-1], value.shape[-1]) >= SMALLEST_HEAD
    return query.device.type == "cuda" and query.dtype != torch.float64 and wide


def attend_flex(query: Tensor, key: Tensor, value: Tensor, layout: Layout, extras: AttentionOptions) -> Tensor:
    """As `segments.attend_segments`, in one call.

    With sinks, what softmax gave is scaled by Σ exp(score) / (exp(sink) + Σ exp(score)) = sigmoid(lse − sink).
    """
    mask = _block_mask(layout, extras.window, extras.chunk)
    scale, softcap = _constant(extras.scaling), _constant(extras.softcap)
    output, aux = _compiled_flex()(query, key, value, mask, scale, softcap, extras.sinks is not None)
    if extras.sinks is None:
        return output
    assert aux.lse is not None, "the log-sum-exp was asked for"
    share = torch.sigmoid(aux.lse - extras.sinks.to(aux.lse.dtype)[None, :, None])
    return output * share[..., None].to(output.dtype)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, mask: BlockMask, scale: str | None, softcap: str | None, lse: bool
) -> tuple[Tensor, AuxOutput]:
    """What is compiled: FlexAttention, whose numbers come as `_constant` writes them."""
    return flex_attention(
        query,
        key,
        value,
        score_mod=None if softcap is None else _capped(float(softcap)),
        block_mask=mask,
        scale=None if scale is None else float(scale),
        enable_gqa=query.shape[1] != key.shape[1],
        return_aux=AuxRequest(lse=lse),
    )


def _constant(number: float | None) -> str | None:
    """A number as text, which stays a constant of the compiled kernel.

    With `dynamic=True` torch 2.13 makes a variable of every number that a compiled function sees, and its compiler
    fails on a variable in a score or mask function ("unbacked_bindings"). To be removed when it does not.
    """
    return None if number is None else repr(number)


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
    near, piece = _constant(window), _constant(chunk)

    def visible(_batch: Tensor, _head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        distance = layout.positions[row] - layout.positions[column]
        branch = layout.branch[column]
        same = (layout.group[row] == layout.group[column]) & ((branch == 0) | (branch == layout.branch[row]))
        seen = same & (distance >= 0)
        if near is not None:
            seen = seen & (distance < int(near))
        if piece is not None:
            size = int(piece)
            seen = seen & (layout.positions[row] // size == layout.positions[column] // size)
        return seen

    return visible


@cache
def _compiled_flex() -> Callable[..., tuple[Tensor, AuxOutput]]:
    """Compiled on first use: naming `torch.compile` alone imports the whole compiler."""
    return torch.compile(_attend, **COMPILING)


@cache
def _compiled_create() -> Callable[..., BlockMask]:
    """Uncompiled, it would materialise a mask of rows × rows."""
    return torch.compile(create_block_mask, **COMPILING)


_masks: dict[tuple[Layout, int | None, int | None], BlockMask] = {}


def _block_mask(layout: Layout, window: int | None, chunk: int | None) -> BlockMask:
    """Block masks of the newest layout, one per rule: the layers of one forward and its recomputation share them."""
    if not any(known is layout for known, *_ in _masks):
        _masks.clear()
    if (layout, window, chunk) not in _masks:
        rows, device = len(layout.positions), layout.positions.device
        create = _compiled_create() if device.type == "cuda" else create_block_mask
        rule = layout_mask(layout, window, chunk)
        _masks[layout, window, chunk] = create(rule, None, None, rows, rows, str(device))
    return _masks[layout, window, chunk]
