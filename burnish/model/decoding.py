"""Decoding attention: the newest token of every response over its prompt and its own earlier tokens.

Called by `attention` while responses are generated; computes the same as `segments` and `flex`, without gradients. A
sequence is one response that is being generated. It attends to two parts: its prompt, which it shares with other
sequences (`prefix_cache`), and its own tokens. Each part gives a maximum, a sum and a weighted sum of exponentials, and
these are merged as in online softmax (Milakov and Gimelshein 2018, arXiv 1805.02867); so a prompt is read once for all
its sequences and never copied.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from burnish.layout import Layout, LayoutBuilder
from burnish.model.attention_options import AttentionOptions
from burnish.model.prefix_cache import ArrangedPrompts, KeysValues, PromptArrangement, PromptKeys
from burnish.prefix_tree import PrefixTree, tree_of
from burnish.types import MediaRef, PlacedImage, place_images


@dataclass(frozen=True, eq=False, slots=True)
class Prefill:
    """Packed forward of prompts that keeps their keys and values for the responses."""

    layout: Layout
    tokens: Tensor
    """[N] what is computed."""
    places: tuple[slice | Tensor, ...]
    """Per prompt the packed positions of its tokens: a slice where it shares none with a prompt before it, else [P]."""
    lengths: tuple[int, ...]
    """Tokens of each prompt."""
    ends: tuple[int, ...]
    """Packed position of the last token of each prompt."""
    keys_values: dict[int, KeysValues] = field(default_factory=dict)
    """Layer → [key heads, N, D], filled by the forward."""
    media: tuple[PlacedImage, ...] = ()
    """Images of the prompts."""

    @classmethod
    def of(cls, prompts: Sequence[Tensor], device: torch.device, media: Sequence[Sequence[MediaRef]] = ()) -> Self:
        """The prefill of prompts [P_i]; a beginning that several have in common is computed once.

        Args:
            prompts: their tokens.
            device: of the model.
            media: images of each prompt. Prompts with images share no beginning: equal tokens may stand for other
                images. (): there are none.
        """
        shown = any(media)
        tree = (None if shown else tree_of(prompts)) or PrefixTree.flat(len(prompts))
        builder = LayoutBuilder()
        places: dict[int, slice | Tensor] = {}
        ends: dict[int, int] = {}
        tokens = []
        placed: list[PlacedImage] = []
        for number, shared in zip(tree.order, tree.shared, strict=True):
            rows = builder.add(len(prompts[number]), shared)
            alone = slice(builder.num_tokens - len(rows), builder.num_tokens)
            places[number] = rows.to(device) if shared else alone
            ends[number] = int(rows[-1])
            placed += place_images(media[number], prompts[number], int(rows[0])) if shown else []
            tokens.append(prompts[number][shared:])
        numbers = range(len(prompts))
        return cls(
            builder.layout().to(device),
            torch.cat(tokens).to(device),
            tuple(places[number] for number in numbers),
            tuple(map(len, prompts)),
            tuple(ends[number] for number in numbers),
            media=tuple(placed),
        )

    @property
    def positions(self) -> Tensor:
        """[N] positions of the tokens."""
        return self.layout.positions

    def prompts(self) -> Iterator[PromptKeys]:
        """Keys and values per prompt, in order; views of the forward's tensors where nothing is shared."""
        for at, length in zip(self.places, self.lengths, strict=True):
            yield PromptKeys({n: (k[:, at], v[:, at]) for n, (k, v) in self.keys_values.items()}, length)


class ResponseKeys:
    """Keys and values of generated tokens, allocated once. Sequences are numbered without gaps."""

    def __init__(self, max_sequences: int, max_tokens: int) -> None:
        self.max_sequences, self.max_tokens = max_sequences, max_tokens
        self._layers: dict[int, KeysValues] = {}

    def put(self, layer: int, counts: Tensor, longest: int, key: Tensor, value: Tensor) -> KeysValues:
        """Adds a token to each of the first R sequences.

        Args:
            layer: number of the layer.
            counts: [R] tokens that each sequence has before this one.
            longest: max(counts) + 1.
            key: [R, key heads, D].
            value: [R, key heads, D'].

        Returns:
            [R, key heads, longest, D] and the same with D', views; entries behind a sequence's own tokens are
            meaningless.
        """
        if layer not in self._layers:
            self._layers[layer] = (self._allocate(key), self._allocate(value))
        sequences = torch.arange(len(counts), device=counts.device)
        keys, values = self._layers[layer]
        for store, new in zip((keys, values), (key, value), strict=True):
            store[sequences, :, counts] = new
        return keys[: len(sequences), :, :longest], values[: len(sequences), :, :longest]

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copies the first tokens of one sequence over those of another."""
        for store in (store for pair in self._layers.values() for store in pair):
            store[target, :, :tokens] = store[source, :, :tokens]

    def _allocate(self, like: Tensor) -> Tensor:
        # Zeros, since unused entries are multiplied by a probability of 0, and 0 times garbage may be nan.
        return like.new_zeros((self.max_sequences, like.shape[1], self.max_tokens, like.shape[2]))


@dataclass(frozen=True, eq=False, slots=True)
class Decoding:
    """One decoding step: a token for each of R sequences, and what each attends to."""

    responses: ResponseKeys
    counts: Tensor
    """[R] tokens that each sequence has before this one."""
    longest: int
    """max(counts) + 1."""
    arrangement: PromptArrangement
    """The prompts of the sequences."""
    lengths: Tensor
    """[R] tokens of each sequence's prompt."""
    positions: Tensor
    """[R] positions of the tokens: lengths + counts."""
    _masks: dict[tuple[int | None, int | None], Masks] = field(default_factory=dict)
    """Masks by window and chunk, which layers share."""

    def masks(self, options: AttentionOptions) -> Masks:
        """The masks for a layer's window and chunk."""
        key = (options.window, options.chunk)
        if key not in self._masks:
            prompts = tuple(_prompt_mask(self, part, options) for part in self.arrangement.parts)
            self._masks[key] = Masks(_own_mask(self, options), prompts)
        return self._masks[key]


@dataclass(frozen=True, eq=False, slots=True)
class Masks:
    """Masks of one decoding step; True: not attended to."""

    own: Tensor
    """[R, 1, 1, longest]."""
    prompts: tuple[Tensor, ...]
    """Per block of the arrangement [S, 1 or n, 1, longest prompt]; n where sequences of one slot have different
    masks."""


def attend_decoding(
    layer: int, query: Tensor, key: Tensor, value: Tensor, decoding: Decoding, options: AttentionOptions
) -> Tensor:
    """Attention as in `segments.attend_segments`, with the R newest tokens as N; returns [1, heads, R, D']."""
    heads, key_heads = query.shape[1], key.shape[1]
    scale = 1 / math.sqrt(query.shape[3]) if options.scaling is None else options.scaling
    queries = (query[0] * scale).transpose(0, 1).unflatten(1, (key_heads, heads // key_heads))  # [R, key heads, G, D]
    own_keys, own_values = decoding.responses.put(
        layer, decoding.counts, decoding.longest, key[0].transpose(0, 1), value[0].transpose(0, 1)
    )
    masks = decoding.masks(options)
    own = _part(queries, own_keys, own_values, masks.own, options)
    before = _over_prompts(layer, queries, decoding.arrangement, masks, options)
    merged = _merge(own, before, options, heads, key_heads)
    return merged.flatten(1, 2).transpose(0, 1)[None].to(value.dtype)


_Part = tuple[Tensor, Tensor, Tensor]
"""Partial softmax: maximum of the scores [..., G, 1], sum of exp(score − maximum) [..., G, 1], and the sum of the
values with these weights [..., G, D']."""


def _part(queries: Tensor, keys: Tensor, values: Tensor, hidden: Tensor, options: AttentionOptions) -> _Part:
    """Partial softmax of queries [..., G, D] over keys [..., T, D] and values [..., T, D'], masked where `hidden` [...,
    T].

    Where all is masked, the maximum is the smallest number, and the rest is finite and meaningless.
    """
    if queries.shape[-2] == 1:  # a matrix by a vector is faster than a vector by a matrix
        scores = (keys @ queries.transpose(-1, -2)).transpose(-1, -2)
    else:
        scores = queries @ keys.transpose(-1, -2)
    if options.softcap is not None:
        scores = options.softcap * torch.tanh(scores / options.softcap)
    scores.masked_fill_(hidden, torch.finfo(scores.dtype).min)
    largest = scores.amax(dim=-1, keepdim=True)
    weights = scores.sub_(largest).exp_()
    return largest, weights.sum(dim=-1, keepdim=True), weights @ values


def _hidden(queries: Tensor, keys: Tensor, options: AttentionOptions) -> Tensor | None:
    """True where window or chunk hide an earlier key position from a query position; broadcasts. None: nothing is."""
    hidden = None
    if options.window is not None:
        hidden = queries - keys >= options.window
    if options.chunk is not None:
        in_other_chunk = queries // options.chunk != keys // options.chunk
        hidden = in_other_chunk if hidden is None else hidden | in_other_chunk
    return hidden


def _own_mask(decoding: Decoding, options: AttentionOptions) -> Tensor:
    """[R, 1, 1, longest] True where a sequence has no token yet, or window or chunk hide it."""
    column = torch.arange(decoding.longest, device=decoding.counts.device)
    behind = column > decoding.counts[:, None]
    hidden = _hidden(decoding.positions[:, None], decoding.lengths[:, None] + column, options)
    return (behind if hidden is None else behind | hidden)[:, None, None, :]


def _prompt_mask(decoding: Decoding, part: ArrangedPrompts, options: AttentionOptions) -> Tensor:
    """[S, 1, 1, longest] True behind the end of a prompt; with a window or a chunk [S, n, 1, longest]."""
    device = decoding.counts.device
    column = torch.arange(part.longest, device=device)
    behind = column >= torch.tensor(part.block.lengths[: part.slots], device=device)[:, None, None]
    positions = decoding.positions.index_select(0, part.indices).view(part.slots, part.per_slot, 1)
    hidden = _hidden(positions, column, options)
    return (behind if hidden is None else behind | hidden)[:, :, None, :]


def _over_prompts(
    layer: int, queries: Tensor, arrangement: PromptArrangement, masks: Masks, options: AttentionOptions
) -> _Part:
    """Partial softmax of all sequences over their prompts, one block at a time."""
    parts = [
        _over_block(layer, queries, part, hidden, options)
        for part, hidden in zip(arrangement.parts, masks.prompts, strict=True)
    ]
    largest, total, summed = (torch.cat(kind).index_select(0, arrangement.order) for kind in zip(*parts, strict=True))
    return largest, total, summed


def _over_block(layer: int, queries: Tensor, part: ArrangedPrompts, hidden: Tensor, options: AttentionOptions) -> _Part:
    """Partial softmax [S · n, key heads, G, ...] of the sequences of one block over their prompts."""
    width = queries.shape[2]
    by_slot = queries.index_select(0, part.indices).unflatten(0, (part.slots, part.per_slot))  # [S, n, key heads, G, D]
    keys, values = (tensor[: part.slots, :, : part.longest] for tensor in part.block.layers[layer])
    mask = hidden.repeat_interleave(width, dim=1) if hidden.shape[1] > 1 else hidden  # [S, 1 or n · G, 1, P]
    partial = _part(by_slot.transpose(1, 2).flatten(2, 3), keys, values, mask.transpose(1, 2), options)
    largest, total, summed = (
        tensor.unflatten(2, (part.per_slot, width)).transpose(1, 2).flatten(0, 1) for tensor in partial
    )
    return largest, total, summed


def _merge(one: _Part, other: _Part, options: AttentionOptions, heads: int, key_heads: int) -> Tensor:
    """[R, key heads, G, D'] the softmax over both parts, and over the sink where there is one."""
    largest = torch.maximum(one[0], other[0])
    sinks = None if options.sinks is None else options.sinks.view(key_heads, heads // key_heads, 1).to(largest.dtype)
    if sinks is not None:
        largest = torch.maximum(largest, sinks)
    first, second = torch.exp(one[0] - largest), torch.exp(other[0] - largest)
    total = one[1] * first + other[1] * second
    if sinks is not None:
        total = total + torch.exp(sinks - largest)
    return (one[2] * first + other[2] * second) / total
