"""Packed attention with one scaled-dot-product call per segment, on any device and in any type.

Called by `attention`; computes the same as `flex`. Sharing is exact: the gradient of shared keys and values is the sum
over the sequences that have them, added in a fixed order.

A sink is one more key with a value of zero, which every query sees. torch's function takes no score for it, so queries
get one more dimension that holds the score, and keys one that is 1 for the sink and 0 for others. This is exact,
differentiable for the sink too, and keeps nothing of size tokens × tokens. Capped scores have no such form and are
computed explicitly.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from burnish.layout import Layout, Segment
from burnish.model.attention_options import AttentionOptions


def attend_segments(query: Tensor, key: Tensor, value: Tensor, layout: Layout, options: AttentionOptions) -> Tensor:
    """Attention of a packed row. Splitting (not slicing) keeps the backward linear: its gradient is one concatenation.

    On a CPU, 16-bit types are computed in float32, since the kernel's backward in bfloat16 takes 2.7 times as long.

    Args:
        query: [1, heads, N, D].
        key: [1, key heads, N, D].
        value: [1, key heads, N, E].
        layout: visibility of the N positions.
        options: scaling, window, chunk, soft-cap and sinks of the layer.

    Returns:
        [1, heads, N, E].
    """
    narrow = query.dtype
    if query.device.type == "cpu" and narrow in (torch.bfloat16, torch.float16):
        query, key, value = query.float(), key.float(), value.float()
    lengths = [segment.length for segment in layout.segments]
    queries, keys, values = (tensor.split(lengths, dim=2) for tensor in (query, key, value))
    beginnings = _beginnings(keys, values, layout)
    outputs = []
    for q, k, v, segment in zip(queries, keys, values, layout.segments, strict=True):
        if segment.context:
            context = [beginnings[piece] for piece in segment.context]
            k = torch.cat([*(part for before, _ in context for part in before), k], dim=2)  # noqa: PLW2901
            v = torch.cat([*(part for _, before in context for part in before), v], dim=2)  # noqa: PLW2901
        outputs.append(_attend(q, k, v, segment, _two_way(layout, segment), options))
    return torch.cat(outputs, dim=2).to(narrow)


_Parts = tuple[Tensor, ...]


def _beginnings(
    keys: Sequence[Tensor], values: Sequence[Tensor], layout: Layout
) -> dict[tuple[int, int], tuple[_Parts, _Parts]]:
    """The pieces of all contexts as parts of keys and values, which are split once where sequences fork: the backward
    of a slice for every context would write each segment's whole length."""
    forks: dict[int, set[int]] = {}
    for segment in layout.segments:
        for start, length in segment.context:
            forks.setdefault(start, set()).add(length)
    found = {}
    for segment, key, value in zip(layout.segments, keys, values, strict=True):
        ends = sorted(forks.get(segment.start, ()))
        borders = [0, *ends, *([segment.length] if ends and ends[-1] < segment.length else [])]
        sizes = [last - first for first, last in pairwise(borders)]
        parts = (key.split(sizes, dim=2), value.split(sizes, dim=2)) if len(sizes) > 1 else ((key,), (value,))
        for number, end in enumerate(ends, 1):
            found[segment.start, end] = parts[0][:number], parts[1][:number]
    return found


def _attend(
    query: Tensor, key: Tensor, value: Tensor, segment: Segment, two_way: Tensor | None, options: AttentionOptions
) -> Tensor:
    """Causal attention of a segment over its context and itself."""
    if options.softcap is not None:
        return _attend_capped(query, key, value, _visible(segment, two_way, options, query.device), options)
    square = not segment.context and options.sees_all(segment.length) and two_way is None
    mask = None if square else _visible(segment, two_way, options, query.device)
    if options.sinks is not None:
        return _attend_with_sink(query, key, value, mask, options.sinks, _scaling(query, options))
    return _attend_plain(query, key, value, mask, options.scaling)


def _attend_plain(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None) -> Tensor:
    """Attention with a mask, or causal without one. Kernels need values as wide as keys (latent attention:
    narrower)."""
    size, missing = value.shape[-1], key.shape[-1] - value.shape[-1]
    if missing > 0:
        value = pad(value, (0, missing))
    grouped = query.shape[1] != key.shape[1]
    output = scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=grouped
    )
    return output[..., :size] if missing > 0 else output


def _attend_with_sink(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, sinks: Tensor, scaling: float
) -> Tensor:
    """Attention with the sink before all keys; without a mask, a discarded query before all queries keeps it causal."""
    own_score = (sinks / scaling).to(query.dtype)[None, :, None, None].expand(*query.shape[:3], 1)
    query = torch.cat([query, own_score], dim=-1)
    sink = pad(torch.ones_like(key[:, :, :1, :1]), (key.shape[-1], 0))
    key = torch.cat([sink, pad(key, (0, 1))], dim=2)
    value = pad(value, (0, 0, 1, 0))
    if mask is None:
        return _attend_plain(pad(query, (0, 0, 1, 0)), key, value, None, scaling)[:, :, 1:]
    return _attend_plain(query, key, value, pad(mask, (1, 0), value=True), scaling)


def _attend_capped(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, options: AttentionOptions) -> Tensor:
    """Explicit attention with capped scores; scores of [heads, queries, keys] are kept for the backward."""
    assert options.softcap is not None, "only capped scores are computed explicitly"
    heads, key_heads = query.shape[1], key.shape[1]
    grouped = query.unflatten(1, (key_heads, heads // key_heads))
    scores = grouped @ key[:, :, None].transpose(-1, -2) * _scaling(query, options)
    scores = (options.softcap * torch.tanh(scores / options.softcap)).masked_fill(~mask, -torch.inf)
    if options.sinks is not None:
        sinks = options.sinks.to(scores.dtype).view(1, key_heads, -1, 1, 1).expand(*scores.shape[:-1], 1)
        scores = torch.cat([sinks, scores], dim=-1)
    weights = scores.softmax(dim=-1, dtype=_softmax_dtype(scores.dtype)).to(value.dtype)
    return (weights[..., -key.shape[2] :] @ value[:, :, None]).flatten(1, 2)


def _softmax_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _scaling(query: Tensor, options: AttentionOptions) -> float:
    return query.shape[-1] ** -0.5 if options.scaling is None else options.scaling


def _two_way(layout: Layout, segment: Segment) -> Tensor | None:
    """[queries, keys] bool, True for tokens of one block; None: the segment's own tokens are in none."""
    if layout.blocks is None:
        return None
    own = layout.blocks[segment.start : segment.start + segment.length]
    if not bool((own >= 0).any()):
        return None
    pieces = [layout.blocks[start : start + length] for start, length in segment.context]
    return (own[:, None] >= 0) & (own[:, None] == torch.cat([*pieces, own])[None, :])


def _visible(segment: Segment, two_way: Tensor | None, options: AttentionOptions, device: torch.device) -> Tensor:
    """[queries, keys] bool; positions of context and segment are contiguous, so indices take their place."""
    num_keys = segment.context_length + segment.length
    query_position = torch.arange(segment.context_length, num_keys, device=device)[:, None]
    key_position = torch.arange(num_keys, device=device)[None, :]
    visible = key_position <= query_position
    if two_way is not None:
        visible = visible | two_way
    if options.window is not None:
        visible = visible & (query_position - key_position < options.window)
    if options.chunk is not None:
        visible = visible & (query_position // options.chunk == key_position // options.chunk)
    return visible
