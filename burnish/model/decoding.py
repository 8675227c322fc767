"""Attention of the newest token of every response over all that came before: a prompt's keys once for its responses.

Stands behind `attention` while responses are written, beside `segments` and `flex`, with the same meaning and without
gradients. A row is one response that is being written. What it sees has two parts: its prompt, which it shares with
other rows (`shelves`), and its own tokens. Each part gives a maximum, a sum and a weighted sum of exponentials, and
these are merged as in online softmax (Milakov and Gimelshein 2018, arXiv 1805.02867); so a prompt is read once for all
its rows and is never copied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Self

import torch
from torch import Tensor

from burnish.model.attention_options import AttentionOptions
from burnish.model.prefix_cache import ArrangedPrompts, KeysValues, PromptArrangement, PromptKeys
from burnish.types import Layout, Segment


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
        return [PromptKeys({n: (k[:, a:b], v[:, a:b]) for n, (k, v) in self.kept.items()}, b - a) for a, b in ends]


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
    arrangement: PromptArrangement
    """The prompts of the rows."""
    lengths: Tensor
    """[R] tokens of each row's prompt."""
    positions: Tensor
    """[R] of the tokens: lengths + places."""
    _masks: dict[tuple[int | None, int | None], Masks] = field(default_factory=dict)
    """By window and chunk: the same in all layers that have them."""

    def masks(self, extras: AttentionOptions) -> Masks:
        """What is not seen through a layer's window or chunk."""
        key = (extras.window, extras.chunk)
        if key not in self._masks:
            prompts = tuple(_prompt_mask(self, part, extras) for part in self.arrangement.parts)
            self._masks[key] = Masks(_own_mask(self, extras), prompts)
        return self._masks[key]


@dataclass(frozen=True, eq=False, slots=True)
class Masks:
    """True where a row does not look."""

    own: Tensor
    """[R, 1, 1, longest]."""
    prompts: tuple[Tensor, ...]
    """Of each part of the arrangement: [S, 1 or n, 1, longest prompt]; n where the rows of a slot see differently."""


def attend_decoding(
    layer: int, query: Tensor, key: Tensor, value: Tensor, decoding: Decoding, extras: AttentionOptions
) -> Tensor:
    """Args as in `segments`, with the R newest tokens as the packed row; returns [1, heads, R, D']."""
    heads, key_heads = query.shape[1], key.shape[1]
    scale = 1 / math.sqrt(query.shape[3]) if extras.scaling is None else extras.scaling
    queries = (query[0] * scale).transpose(0, 1).unflatten(1, (key_heads, heads // key_heads))  # [R, key heads, G, D]
    own_keys, own_values = decoding.responses.put(
        layer, decoding.places, decoding.longest, key[0].transpose(0, 1), value[0].transpose(0, 1)
    )
    masks = decoding.masks(extras)
    own = _part(queries, own_keys, own_values, masks.own, extras)
    before = _over_prompts(layer, queries, decoding.arrangement, masks, extras)
    merged = _merge(own, before, extras, heads, key_heads)
    return merged.flatten(1, 2).transpose(0, 1)[None].to(value.dtype)


_Part = tuple[Tensor, Tensor, Tensor]
"""Of one part of what is seen: maximum of the scores [..., G, 1], sum of exp(score − maximum) [..., G, 1], and the sum
of the values with these weights [..., G, D']."""


def _part(queries: Tensor, keys: Tensor, values: Tensor, unseen: Tensor, extras: AttentionOptions) -> _Part:
    """Queries [..., G, D] over keys [..., T, D], values [..., T, D']; `unseen` [..., T] is True where not to look. Of
    what sees nothing, the maximum is the least number, and all else is finite and means nothing."""
    if queries.shape[-2] == 1:  # a matrix by a vector is faster than a vector by a matrix
        scores = (keys @ queries.transpose(-1, -2)).transpose(-1, -2)
    else:
        scores = queries @ keys.transpose(-1, -2)
    if extras.softcap is not None:
        scores = extras.softcap * torch.tanh(scores / extras.softcap)
    scores.masked_fill_(unseen, torch.finfo(scores.dtype).min)
    largest = scores.amax(dim=-1, keepdim=True)
    weights = scores.sub_(largest).exp_()
    return largest, weights.sum(dim=-1, keepdim=True), weights @ values


def _hidden(rows: Tensor, columns: Tensor, extras: AttentionOptions) -> Tensor | None:
    """True where a row at one position does not see an earlier column at another; broadcasts. None: all is seen."""
    hidden = None
    if extras.window is not None:
        hidden = rows - columns >= extras.window
    if extras.chunk is not None:
        apart = rows // extras.chunk != columns // extras.chunk
        hidden = apart if hidden is None else hidden | apart
    return hidden


def _own_mask(decoding: Decoding, extras: AttentionOptions) -> Tensor:
    """[R, 1, 1, longest] True where a row has no token yet, or one that it does not see."""
    column = torch.arange(decoding.longest, device=decoding.places.device)
    behind = column > decoding.places[:, None]
    hidden = _hidden(decoding.positions[:, None], decoding.lengths[:, None] + column, extras)
    return (behind if hidden is None else behind | hidden)[:, None, None, :]


def _prompt_mask(decoding: Decoding, part: ArrangedPrompts, extras: AttentionOptions) -> Tensor:
    """[S, 1, 1, longest] True behind the end of a prompt; with a window or a chunk [S, n, 1, longest]."""
    device = decoding.places.device
    column = torch.arange(part.longest, device=device)
    behind = column >= torch.tensor(part.shelf.lengths[: part.slots], device=device)[:, None, None]
    positions = decoding.positions.index_select(0, part.take).view(part.slots, part.rows, 1)
    hidden = _hidden(positions, column, extras)
    return (behind if hidden is None else behind | hidden)[:, :, None, :]


def _over_prompts(
    layer: int, queries: Tensor, arrangement: PromptArrangement, masks: Masks, extras: AttentionOptions
) -> _Part:
    """All rows over their prompts, a shelf at a time."""
    parts = [
        _over_shelf(layer, queries, part, unseen, extras)
        for part, unseen in zip(arrangement.parts, masks.prompts, strict=True)
    ]
    largest, total, summed = (torch.cat(kind).index_select(0, arrangement.back) for kind in zip(*parts, strict=True))
    return largest, total, summed


def _over_shelf(layer: int, queries: Tensor, part: ArrangedPrompts, unseen: Tensor, extras: AttentionOptions) -> _Part:
    """[S · n, key heads, G, ...] rows over the prompts of a shelf."""
    width = queries.shape[2]
    rows = queries.index_select(0, part.take).unflatten(0, (part.slots, part.rows))  # [S, n, key heads, G, D]
    keys, values = (each[: part.slots, :, : part.longest] for each in part.shelf.layers[layer])
    of_rows = unseen.repeat_interleave(width, dim=1) if unseen.shape[1] > 1 else unseen  # [S, 1 or n · G, 1, P]
    found = _part(rows.transpose(1, 2).flatten(2, 3), keys, values, of_rows.transpose(1, 2), extras)
    largest, total, summed = (each.unflatten(2, (part.rows, width)).transpose(1, 2).flatten(0, 1) for each in found)
    return largest, total, summed


def _merge(one: _Part, other: _Part, extras: AttentionOptions, heads: int, key_heads: int) -> Tensor:
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
