"""Attention of the newest token of every response over all that came before: a prompt's keys once for its responses.

Stands behind `attention` while responses are written, beside `segments` and `flex`, with the same meaning and without
gradients. A row is one response that is being written. What it sees has two parts: its prompt, which it shares with
other rows, and its own tokens. Each part gives a maximum, a sum and a weighted sum of exponentials, and these are
merged as in online softmax (Milakov and Gimelshein 2018, arXiv 1805.02867); so a prompt is read once for all its rows
and is never copied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Self

import torch
from torch import Tensor

from burnish.model.extras import Extras
from burnish.types import Layout, Segment

KeysValues = tuple[Tensor, Tensor]
"""Keys and values of one layer."""


@dataclass(frozen=True, eq=False, slots=True)
class Prefill:
    """The layout of a packed forward of prompts alone, which keeps what their responses will look at."""

    layout: Layout
    kept: dict[int, KeysValues] = field(default_factory=dict)
    """Layer → [key heads, N, D], filled by the forward."""

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> Self:
        """Prompts of these lengths, one after another."""
        starts = accumulate(lengths, initial=0)
        segments = tuple(Segment(start, length) for start, length in zip(starts, lengths, strict=False))
        sizes = torch.tensor(lengths)
        positions = torch.cat([torch.arange(length) for length in lengths])
        return cls(
            Layout(
                segments=segments,
                group=torch.repeat_interleave(torch.arange(len(lengths)), sizes).to(device),
                branch=torch.zeros_like(positions).to(device),
                positions=positions.to(device),
            )
        )

    @property
    def positions(self) -> Tensor:
        """[N] of the tokens."""
        return self.layout.positions

    def prompts(self) -> list[PromptKeys]:
        """Of each prompt, in their order: views, which share the memory of the forward's keys."""
        ends = [(segment.start, segment.start + segment.length) for segment in self.layout.segments]
        return [PromptKeys({n: (k[:, a:b], v[:, a:b]) for n, (k, v) in self.kept.items()}) for a, b in ends]


@dataclass(frozen=True, eq=False, slots=True)
class PromptKeys:
    """What the responses of one prompt share."""

    layers: dict[int, KeysValues]
    """Layer → [key heads, P, D]."""


class ResponseKeys:
    """Keys and values of the tokens that the rows have written, allocated once. Rows are numbered without gaps."""

    def __init__(self, most_rows: int, most_tokens: int) -> None:
        self.most_rows, self.most_tokens = most_rows, most_tokens
        self._layers: dict[int, KeysValues] = {}

    def put(self, layer: int, places: Tensor, longest: int, key: Tensor, value: Tensor) -> KeysValues:
        """Adds a token to each of the first R rows.

        Args:
            layer: of the model.
            places: [R] tokens of each row before this one.
            longest: the largest of them, and this one: max(places) + 1.
            key: [R, key heads, D].
            value: [R, key heads, D'].

        Returns:
            [R, key heads, longest, D] and the same with D', views; what is behind a row's own tokens means nothing.
        """
        if layer not in self._layers:
            self._layers[layer] = (self._allocate(key), self._allocate(value))
        rows = torch.arange(len(places), device=places.device)
        kept = self._layers[layer]
        for store, new in zip(kept, (key, value), strict=True):
            store[rows, :, places] = new
        return kept[0][: len(rows), :, :longest], kept[1][: len(rows), :, :longest]

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copies the first tokens of a row to the place of another."""
        for store in (store for kept in self._layers.values() for store in kept):
            store[target, :, :tokens] = store[source, :, :tokens]

    def _allocate(self, like: Tensor) -> Tensor:
        # Zeros, since what nobody wrote is multiplied by a probability of 0, and 0 times garbage may be nan.
        return like.new_zeros((self.most_rows, like.shape[1], self.most_tokens, like.shape[2]))


@dataclass(frozen=True, eq=False, slots=True)
class Decoding:
    """One token for each of R rows: who sees what."""

    responses: ResponseKeys
    places: Tensor
    """[R] tokens that each row wrote before this one."""
    longest: int
    """max(places) + 1."""
    prompts: Sequence[PromptKeys]
    """The prompts of the rows, each once."""
    counts: Sequence[int]
    """Rows of each prompt."""
    order: Tensor
    """[R] rows ordered by their prompts."""
    back: Tensor
    """[R] where in that order each row is."""
    lengths: Tensor
    """[R] tokens of each row's prompt."""

    @property
    def positions(self) -> Tensor:
        """[R] of the tokens."""
        return self.lengths + self.places


def attend_decoding(
    layer: int, query: Tensor, key: Tensor, value: Tensor, decoding: Decoding, extras: Extras
) -> Tensor:
    """Args as in `segments`, with the R newest tokens as the packed row; returns [1, heads, R, D']."""
    heads, key_heads = query.shape[1], key.shape[1]
    scale = 1 / math.sqrt(query.shape[3]) if extras.scaling is None else extras.scaling
    queries = (query[0] * scale).transpose(0, 1).unflatten(1, (key_heads, heads // key_heads))  # [R, key heads, G, D]
    own_keys, own_values = decoding.responses.put(
        layer, decoding.places, decoding.longest, key[0].transpose(0, 1), value[0].transpose(0, 1)
    )
    own = _part(queries, own_keys, own_values, _own_mask(decoding, extras), extras)
    before = _over_prompts(layer, queries, decoding, extras)
    merged = _merge(own, before, extras, heads, key_heads)
    return merged.flatten(1, 2).transpose(0, 1)[None].to(value.dtype)


_Part = tuple[Tensor, Tensor, Tensor]
"""Of one part of what is seen: maximum of the scores [..., G, 1], sum of exp(score − maximum) [..., G, 1], and the sum
of the values with these weights [..., G, D']."""


def _part(queries: Tensor, keys: Tensor, values: Tensor, unseen: Tensor | None, extras: Extras) -> _Part:
    """Queries [..., G, D] over keys [..., T, D], values [..., T, D']; `unseen` [..., T] is True where not to look."""
    scores = queries @ keys.transpose(-1, -2)
    if extras.softcap is not None:
        scores = extras.softcap * torch.tanh(scores / extras.softcap)
    if unseen is not None:
        scores = scores.masked_fill(unseen, -math.inf)
    largest = scores.amax(dim=-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).min)  # a part may be all unseen
    weights = torch.exp(scores - largest)
    return largest, weights.sum(dim=-1, keepdim=True), weights @ values


def _hidden(rows: Tensor, columns: Tensor, extras: Extras) -> Tensor:
    """True where a row at one position does not see an earlier column at another; broadcasts."""
    hidden = torch.zeros(torch.broadcast_shapes(rows.shape, columns.shape), dtype=torch.bool, device=rows.device)
    if extras.window is not None:
        hidden |= rows - columns >= extras.window
    if extras.chunk is not None:
        hidden |= rows // extras.chunk != columns // extras.chunk
    return hidden


def _own_mask(decoding: Decoding, extras: Extras) -> Tensor:
    """[R, 1, 1, longest] True where a row has no token yet, or one that it does not see."""
    column = torch.arange(decoding.longest, device=decoding.places.device)
    behind = column > decoding.places[:, None]
    hidden = _hidden(decoding.positions[:, None], decoding.lengths[:, None] + column, extras)
    return (behind | hidden)[:, None, None, :]


def _over_prompts(layer: int, queries: Tensor, decoding: Decoding, extras: Extras) -> _Part:
    """All rows over their prompts, a prompt at a time."""
    counts = list(decoding.counts)
    ordered = queries.index_select(0, decoding.order).split(counts)
    positions = decoding.positions.index_select(0, decoding.order).split(counts)
    parts = [
        _over_prompt(rows, *prompt.layers[layer], at, extras)
        for rows, prompt, at in zip(ordered, decoding.prompts, positions, strict=True)
    ]
    largest, total, summed = (torch.cat(kind).index_select(0, decoding.back) for kind in zip(*parts, strict=True))
    return largest, total, summed


def _over_prompt(rows: Tensor, keys: Tensor, values: Tensor, positions: Tensor, extras: Extras) -> _Part:
    """Rows [n, key heads, G, D] at their positions [n], over the keys [key heads, P, D] that they share."""
    count, _, width, _ = rows.shape
    unseen = None
    if extras.window is not None or extras.chunk is not None:
        column = torch.arange(keys.shape[1], device=keys.device)
        unseen = _hidden(positions[:, None], column, extras).repeat_interleave(width, dim=0)  # [n · G, P]
    part = _part(rows.transpose(0, 1).flatten(1, 2), keys, values, unseen, extras)
    largest, total, summed = (each.unflatten(1, (count, width)).transpose(0, 1) for each in part)
    return largest, total, summed


def _merge(one: _Part, other: _Part, extras: Extras, heads: int, key_heads: int) -> Tensor:
    """[R, key heads, G, D'] the softmax over both parts, and over the sink where there is one."""
    largest = torch.maximum(one[0], other[0])
    sinks = None if extras.sinks is None else extras.sinks.view(key_heads, heads // key_heads, 1).to(largest.dtype)
    if sinks is not None:
        largest = torch.maximum(largest, sinks)
    first, second = torch.exp(one[0] - largest), torch.exp(other[0] - largest)
    total = one[1] * first + other[1] * second
    if sinks is not None:
        total = total + torch.exp(sinks - largest)
    return (one[2] * first + other[2] * second) / total
