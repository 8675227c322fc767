"""Packed attention as one FlexAttention call, on CUDA.

Called by `attention`; computes the same as `segments`. On a CPU it runs uncompiled and forward only, which the tests
use.
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

from burnish.layout import Layout
from burnish.model.attention_options import AttentionOptions

SMALLEST_HEAD = 16
"""Smallest head size for which FlexAttention of torch 2.13 compiles."""
MAX_KERNELS = 64
"""Maximum number of compiled kernels of one process. Every kind of layer (window, chunk, cap, sinks), every type, with
or without gradients, and one block of 128 tokens or several need their own; a new layout needs none. A model with two
kinds of layers reaches torch's own limit of 8, beyond which attention is computed uncompiled, with all scores of tokens
× tokens."""

COMPILING: Mapping[str, Any] = {"dynamic": True, "fullgraph": True, "recompile_limit": MAX_KERNELS}
"""Options of `torch.compile`: for any number of tokens, and never in part."""


def supports_flex(query: Tensor, value: Tensor) -> bool:
    """Whether FlexAttention computes these [1, heads, N, D]: on CUDA, in types and sizes that Triton multiplies."""
    wide = min(query.shape[-1], value.shape[-1]) >= SMALLEST_HEAD
    return query.device.type == "cuda" and query.dtype != torch.float64 and wide


def attend_flex(query: Tensor, key: Tensor, value: Tensor, layout: Layout, options: AttentionOptions) -> Tensor:
    """Attention of a packed row, as `segments.attend_segments`, in one call.

    With sinks, the output is scaled by Σ exp(score) / (exp(sink) + Σ exp(score)) = sigmoid(lse − sink).
    """
    mask = _block_mask(layout, options.window, options.chunk)
    scale, softcap = _constant(options.scaling), _constant(options.softcap)
    output, aux = _compiled_flex()(query, key, value, mask, scale, softcap, options.sinks is not None)
    if options.sinks is None:
        return output
    assert aux.lse is not None, "the log-sum-exp was requested"
    share = torch.sigmoid(aux.lse - options.sinks.to(aux.lse.dtype)[None, :, None])
    return output * share[..., None].to(output.dtype)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, mask: BlockMask, scale: str | None, softcap: str | None, lse: bool
) -> tuple[Tensor, AuxOutput]:
    """The compiled function: FlexAttention, with numbers as text from `_constant`."""
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
    """FlexAttention's score function of (score, batch, head, query index, key index) for a soft-cap."""

    def cap(score: Tensor, _batch: Tensor, _head: Tensor, _row: Tensor, _column: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    return cap


def layout_mask(
    layout: Layout, window: int | None, chunk: int | None = None
) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """FlexAttention's mask function of (batch, head, query index, key index) for a layout, window and chunk."""
    window_text, chunk_text, blocks = _constant(window), _constant(chunk), layout.blocks

    def visible(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        distance = layout.positions[query] - layout.positions[key]
        sequence = layout.entry[query]
        same_sequence = (layout.entry[key] <= sequence) & (sequence <= layout.exit[key])
        mask = same_sequence & (distance >= 0)
        if blocks is not None:
            mask = mask | ((blocks[query] >= 0) & (blocks[query] == blocks[key]))
        if window_text is not None:
            mask = mask & (distance < int(window_text))
        if chunk_text is not None:
            size = int(chunk_text)
            mask = mask & (layout.positions[query] // size == layout.positions[key] // size)
        return mask

    return visible


@cache
def _compiled_flex() -> Callable[..., tuple[Tensor, AuxOutput]]:
    """Compiled on first use, since `torch.compile` imports the whole compiler."""
    return torch.compile(_attend, **COMPILING)


@cache
def _compiled_create() -> Callable[..., BlockMask]:
    """Compiled, since uncompiled it would materialize a mask of tokens × tokens."""
    return torch.compile(create_block_mask, **COMPILING)


_masks: dict[tuple[Layout, int | None, int | None], BlockMask] = {}


def _block_mask(layout: Layout, window: int | None, chunk: int | None) -> BlockMask:
    """Block masks of the latest layout, by window and chunk; layers of one forward and its recomputation share them."""
    if not any(cached is layout for cached, *_ in _masks):
        _masks.clear()
    if (layout, window, chunk) not in _masks:
        size, device = len(layout.positions), layout.positions.device
        create = _compiled_create() if device.type == "cuda" else create_block_mask
        mask = layout_mask(layout, window, chunk)
        _masks[layout, window, chunk] = create(mask, None, None, size, size, str(device))
    return _masks[layout, window, chunk]
