"""Packed attention as calls of scaled-dot-product attention, one per segment: any device, any type.

Stands behind `attention`, beside `flex`; both have one meaning. Sharing is exact: the gradient of the prompt's keys and
values is the sum over its responses, added in a fixed order.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from burnish.model.extras import Extras
from burnish.types import Layout, Segment


def attend_segments(query: Tensor, key: Tensor, value: Tensor, layout: Layout, extras: Extras) -> Tensor:
    """One call per segment. Splitting (not slicing) keeps the backward linear: its gradient is one concatenation.

    Args:
        query: [1, heads, N, D].
        key: [1, key heads, N, D].
        value: [1, key heads, N, D].
        layout: who sees whom, N rows.
        extras: what else the layer's attention has.

    Returns:
        [1, heads, N, D].
    """
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
        outputs.append(_attend(q, k, v, segment, extras))
    return torch.cat(outputs, dim=2)


def _attend(query: Tensor, key: Tensor, value: Tensor, segment: Segment, extras: Extras) -> Tensor:
    """Causal attention of a segment's rows over its context and itself."""
    context = segment.context_length
    seen = context + segment.length
    square = context == 0 and (extras.window is None or seen <= extras.window)
    mask = None if square else _visible(context, seen, extras.window, query.device)
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=square,
        scale=extras.scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _visible(context: int, seen: int, window: int | None, device: torch.device) -> Tensor:
    """[rows, seen] bool; positions of context and segment run on without a gap, so they compare like indices here."""
    row = torch.arange(context, seen, device=device)[:, None]
    column = torch.arange(seen, device=device)[None, :]
    visible = column <= row
    return visible if window is None else visible & (row - column < window)
