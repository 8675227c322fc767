"""Packed attention, one call per segment: any device, any type.

Stands behind `attention`, beside `flex`; both have one meaning. Sharing is exact: the gradient of the prompt's keys and
values is the sum over its responses, added in a fixed order.

Scaled-dot-product attention does the work. A sink is one more key there, which every row sees, with a value of zero: as
torch's function has no place for its score, queries get one more dimension that holds it and keys one that is 1 for the
sink and 0 for others. It stays exact, differentiable for the sink too, and nothing of size rows × rows is kept. Capped
scores have no such form: they are written out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from burnish.model.attention_options import AttentionOptions
from burnish.types import Layout, Segment


def attend_segments(query: Tensor, key: Tensor, value: Tensor, layout: Layout, extras: AttentionOptions) -> Tensor:
    """One call per segment. Splitting (not slicing) keeps the backward linear: its gradient is one concatenation.

    A CPU computes narrow types in float32: its kernel's backward in bfloat16 takes 2.7 times as long.

    Args:
        query: [1, heads, N, D].
        key: [1, key heads, N, D].
        value: [1, key heads, N, E].
        layout: who sees whom, N rows.
        extras: what else the layer's attention has.

    Returns:
        [1, heads, N, E].
    """
    narrow = query.dtype
    if query.device.type == "cpu" and narrow in (torch.bfloat16, torch.float16):
        query, key, value = query.float(), key.float(), value.float()
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
    return torch.cat(outputs, dim=2).to(narrow)


def _attend(query: Tensor, key: Tensor, value: Tensor, segment: Segment, extras: AttentionOptions) -> Tensor:
    """Causal attention of a segment's rows over its context and itself."""
    if extras.softcap is not None:
        return _attend_capped(query, key, value, _visible(segment, extras, query.device), extras)
    square = segment.context_length == 0 and extras.sees_all(segment.length)
    mask = None if square else _visible(segment, extras, query.device)
    if extras.sinks is not None:
        return _attend_with_sink(query, key, value, mask, extras.sinks, _scaling(query, extras))
    return _attend_plain(query, key, value, mask, extras.scaling)


def _attend_plain(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None) -> Tensor:
    """Without a mask: causal. Kernels want values as wide as keys (they are narrower in latent attention)."""
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
    """The sink stands before all keys; without a mask, a row that is thrown away stands before all queries."""
    own_score = (sinks / scaling).to(query.dtype)[None, :, None, None].expand(*query.shape[:3], 1)
    query = torch.cat([query, own_score], dim=-1)
    sink = pad(torch.ones_like(key[:, :, :1, :1]), (key.shape[-1], 0))
    key = torch.cat([sink, pad(key, (0, 1))], dim=2)
    value = pad(value, (0, 0, 1, 0))
    if mask is None:
        return _attend_plain(pad(query, (0, 0, 1, 0)), key, value, None, scaling)[:, :, 1:]
    return _attend_plain(query, key, value, pad(mask, (1, 0), value=True), scaling)


def _attend_capped(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, extras: AttentionOptions) -> Tensor:
    """Written out: scores of [heads, rows, seen] are kept for the backward."""
    assert extras.softcap is not None, "only capped scores are written out"
    heads, key_heads = query.shape[1], key.shape[1]
    grouped = query.unflatten(1, (key_heads, heads // key_heads))
    scores = grouped @ key[:, :, None].transpose(-1, -2) * _scaling(query, extras)
    scores = (extras.softcap * torch.tanh(scores / extras.softcap)).masked_fill(~mask, -torch.inf)
    if extras.sinks is not None:
        sinks = extras.sinks.to(scores.dtype).view(1, key_heads, -1, 1, 1).expand(*scores.shape[:-1], 1)
        scores = torch.cat([sinks, scores], dim=-1)
    weights = scores.softmax(dim=-1, dtype=_softmax_dtype(scores.dtype)).to(value.dtype)
    return (weights[..., -key.shape[2] :] @ value[:, :, None]).flatten(1, 2)


def _softmax_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _scaling(query: Tensor, extras: AttentionOptions) -> float:
    return query.shape[-1] ** -0.5 if extras.scaling is None else extras.scaling


def _visible(segment: Segment, extras: AttentionOptions, device: torch.device) -> Tensor:
    """[rows, seen] bool; positions of context and segment run on without a gap, so they compare like indices here."""
    seen = segment.context_length + segment.length
    row = torch.arange(segment.context_length, seen, device=device)[:, None]
    column = torch.arange(seen, device=device)[None, :]
    visible = column <= row
    if extras.window is not None:
        visible = visible & (row - column < extras.window)
    if extras.chunk is not None:
        visible = visible & (row // extras.chunk == column // extras.chunk)
    return visible
