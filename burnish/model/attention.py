"""Attention over packed groups: every prompt's keys and values are computed once and seen by all its responses.

Stands inside the model's forward. The layout arrives as the forward argument ``layout``, which transformers hands
through its decoder layers to the attention function (so activation checkpointing recomputes with the same layout). One
meaning, two kernels: calls of scaled-dot-product attention over segments, and one FlexAttention call on CUDA.

Sharing is exact. The gradient of the prompt's keys and values is the sum over its responses, added in a fixed order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from burnish.types import Layout, Segment

NAME = "burnish_segments_over_"
"""With the name of the model's own attention behind it: the name under which ours is registered with transformers."""
FLEX_SMALLEST_HEAD = 16
"""FlexAttention of torch 2.13 compiles for no smaller head."""
HARMLESS = frozenset(
    {"position_ids", "use_cache", "past_key_values", "cache_position", "output_attentions", "is_causal"}
)
"""What transformers offers to every attention function and ours need not know: the layout says it better."""


class LayoutLostError(RuntimeError):
    """The layout did not arrive: the architecture drops forward arguments, or a plain forward met packed attention.

    Inside `plain_attention` the model takes ordinary forwards. An architecture that drops it is refused at load.
    """


def segment_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    layout: Layout | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """The function that transformers calls in every attention layer.

    Args:
        module: the attention layer; unused, but its signature is transformers'.
        query: [1, heads, N, D].
        key: [1, key heads, N, D].
        value: [1, key heads, N, D].
        attention_mask: always None: no mask function is registered under our name.
        scaling: factor of the scores; None: 1 / sqrt(D).
        dropout: always 0 here: with dropout no split of the batch gives the same result.
        sliding_window: how many positions a token looks back, itself included; None: all.
        layout: who sees whom.
        others: what else the architecture's attention has; refused unless it is known to change nothing.

    Returns:
        [1, N, heads, D], and no attention weights.

    Raises:
        LayoutLostError: the architecture cannot be computed packed.
    """
    if layout is None or attention_mask is not None:
        raise LayoutLostError("the model hands on a mask, or no layout, to packed attention")
    if unknown := [name for name, value in others.items() if value is not None and name not in HARMLESS]:
        raise LayoutLostError(
            f"the model's attention has {', '.join(unknown)}, which packed attention does not compute"
        )
    assert dropout == 0.0, "attention dropout is 0 in packed forwards"
    flex = query.device.type == "cuda" and query.shape[-1] >= FLEX_SMALLEST_HEAD
    attend = _attend_flex if flex else _attend_segments
    return attend(query, key, value, layout, scaling, sliding_window).transpose(1, 2), None


def _attend_segments(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, scaling: float | None, window: int | None
) -> Tensor:
    """One call per segment. Splitting (not slicing) keeps the backward linear: its gradient is one concatenation."""
    lengths = [segment.length for segment in layout.segments]
    queries, keys, values = (tensor.split(lengths, dim=2) for tensor in (query, key, value))
    outputs = []
    owner_key, owner_value = keys[0], values[0]
    for q, k, v, segment in zip(queries, keys, values, layout.segments, strict=True):
        if segment.context_length == 0:
            owner_key, owner_value = k, v
        else:
            prompt_key, prompt_value = (t[:, :, : segment.context_length] for t in (owner_key, owner_value))
            k, v = torch.cat([prompt_key, k], dim=2), torch.cat([prompt_value, v], dim=2)  # noqa: PLW2901
        outputs.append(_attend(q, k, v, segment, scaling, window))
    return torch.cat(outputs, dim=2)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, segment: Segment, scaling: float | None, window: int | None
) -> Tensor:
    """Causal attention of a segment's rows over its context and itself."""
    context = segment.context_length
    seen = context + segment.length
    square = context == 0 and (window is None or seen <= window)
    mask = None if square else _visible(context, seen, window, query.device)
    return scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=square, scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
    )


def _visible(context: int, seen: int, window: int | None, device: torch.device) -> Tensor:
    """[rows, seen] bool; positions of context and segment run on without a gap, so they compare like indices here."""
    row = torch.arange(context, seen, device=device)[:, None]
    column = torch.arange(seen, device=device)[None, :]
    visible = column <= row
    return visible if window is None else visible & (row - column < window)


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


def _attend_flex(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, scaling: float | None, window: int | None
) -> Tensor:
    return _compiled_flex()(
        query,
        key,
        value,
        block_mask=_block_mask(layout, window),
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


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


def install(model: PreTrainedModel) -> None:
    """Makes the text model (not its vision tower) attend by layouts. Undone for a while by `plain_attention`."""
    config = model.config.get_text_config(decoder=True)
    own = config._attn_implementation
    assert not own.startswith(NAME), "packed attention is installed once"
    AttentionInterface.register(NAME + own, segment_attention)
    config._attn_implementation = NAME + own


@contextmanager
def plain_attention(model: PreTrainedModel) -> Iterator[None]:
    """Inside, the model attends as it did before `install`: padded batches, caches, `generate`."""
    config = model.config.get_text_config(decoder=True)
    installed = config._attn_implementation
    config._attn_implementation = installed.removeprefix(NAME)
    try:
        yield
    finally:
        config._attn_implementation = installed
