"""Microbatches: parts of groups laid out in one row, with their scored tokens.

Called by `packing`, which decides what goes together. Pure, as `packing`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from burnish.layout import Layout, LayoutBuilder, join_layouts
from burnish.prefix_tree import PrefixTree
from burnish.streams import concatenate_streams, present_streams
from burnish.types import Group, Microbatch, PlacedImage, Response, place_images


@dataclass(frozen=True, slots=True)
class CostModel:
    """Cost of a packed token, of an attention pair and of a scored token, in any one unit (say FLOPs)."""

    per_token: float = 1.0
    """Work of the token-wise layers for one token; about 2 × (parameters outside the embedding)."""
    per_pair: float = 0.0
    """Work of attention for one (query, key) pair over all layers; about 4 × layers × heads × head size."""
    per_scored: float = 0.0
    """Work of the output head for one scored token; about 2 × vocabulary × hidden size."""
    per_patch: float = 0.0
    """Work of the vision tower and projector for one patch of an image; about 2 × their parameters."""

    def prefix(self, length: int) -> float:
        """Cost of the first tokens of a sequence, without the head."""
        return self.per_token * length + self.per_pair * length * (length + 1) / 2


@dataclass(frozen=True)
class Part:
    """A group, or some of its responses when the group was cut, as one piece of a microbatch."""

    group: Group
    """With these responses alone."""
    group_index: int
    """Index in the step's groups."""
    members: tuple[int, ...] | None = None
    """Index of each of its responses in the whole group; None: the group is whole."""
    siblings: int | None = None
    """Responses of the whole group; None: the group is whole."""
    share: bool = True
    """False: every text is computed with a prompt of its own."""

    @cached_property
    def texts(self) -> tuple[_Text, ...]:
        """Its texts in their packed order."""
        return tuple(self._texts())

    def _texts(self) -> Iterator[_Text]:
        prompt, responses, first = len(self.group.prompt), self.group.responses, True
        tree = self.group.tree or PrefixTree.flat(len(responses))
        for number, common in zip(tree.order, tree.shared, strict=True):
            response = responses[number]
            end = response.forks[0].start if response.forks else len(response.tokens)
            kept = prompt + common if self.share and not first else 0
            yield _Text(number, 0, end, 0, prompt + end, kept)
            first = False
            for start, end, forked in response.texts[1:]:
                length = prompt + forked + end - start
                yield _Text(number, start, end, forked, length, prompt + forked if self.share else 0)

    @cached_property
    def num_tokens(self) -> int:
        return self.group.num_tokens if self.share else sum(text.own for text in self.texts)

    def cost(self, model: CostModel) -> float:
        """Token-wise work, causal attention (a triangle for every segment, and a block for its context), head."""
        pairs = 0.0
        for text in self.texts:
            pairs += text.own * (text.own + 1) / 2 + text.own * text.shared
        scored = sum(int(response.trainable.sum()) for response in self.group.responses) if model.per_scored else 0
        patches = sum(medium.num_patches for medium in self.group.media)
        patches *= 1 if self.share else len(self.texts)
        of_tokens = model.per_token * self.num_tokens + model.per_pair * pairs + model.per_scored * scored
        return of_tokens + model.per_patch * patches


@dataclass(frozen=True, slots=True)
class _Text:
    """Text of a response, with its place in the layout."""

    response: int
    """Index in the part."""
    start: int
    """First token of the response that is its own."""
    end: int
    """End of these tokens."""
    forked: int
    """Tokens after the prompt that it takes from the response's text before it."""
    length: int
    """Tokens with the prompt."""
    shared: int
    """Tokens that are packed already, for the text before it in the layout."""

    @property
    def own(self) -> int:
        """Tokens that are packed for it."""
        return self.length - self.shared


def join(microbatches: Sequence[Microbatch]) -> Microbatch:
    """Joins several microbatches of a step into one.

    Their scored tokens and sequences follow one another, so tensors computed for each are joined by concatenation.
    """
    offsets = _starts([len(microbatch.tokens) for microbatch in microbatches])
    sequences = _starts([microbatch.num_sequences for microbatch in microbatches])
    scored = _starts([len(microbatch.predictor_positions) for microbatch in microbatches])
    num_rounds = max(len(microbatch.gather_rounds) for microbatch in microbatches)
    rounds = [
        torch.cat(
            [m.gather_rounds[k] + at for m, at in zip(microbatches, scored, strict=True) if k < len(m.gather_rounds)]
        )
        for k in range(num_rounds)
    ]
    facts: dict[str, Any] = {name: torch.cat([getattr(m, name) for m in microbatches]) for name in _SEQUENCE_FACTS}
    streams: dict[str, Any] = concatenate_streams(
        [present_streams(m) for m in microbatches], [len(m.targets) for m in microbatches]
    )
    return Microbatch(
        tokens=torch.cat([microbatch.tokens for microbatch in microbatches]),
        layout=join_layouts([microbatch.layout for microbatch in microbatches], offsets),
        predictor_positions=torch.cat(
            [m.predictor_positions + at for m, at in zip(microbatches, offsets, strict=True)]
        ),
        token_positions=torch.cat([m.token_positions + at for m, at in zip(microbatches, offsets, strict=True)]),
        gather_rounds=tuple(rounds),
        targets=torch.cat([microbatch.targets for microbatch in microbatches]),
        sequence=torch.cat([m.sequence + at for m, at in zip(microbatches, sequences, strict=True)]),
        weights=torch.cat([microbatch.weights for microbatch in microbatches]),
        response_positions=torch.cat([microbatch.response_positions for microbatch in microbatches]),
        sequence_end_positions=torch.cat(
            [m.sequence_end_positions + at for m, at in zip(microbatches, offsets, strict=True)]
        ),
        media=tuple(
            replace(image, start=image.start + at, positions=image.positions + at)
            for m, at in zip(microbatches, offsets, strict=True)
            for image in m.media
        ),
        **streams,
        **facts,
        **_membership(facts["sequence_group"], facts["sequence_index"], facts["sequence_siblings"]),
    )


def build(parts: Sequence[Part]) -> Microbatch:
    """Lays parts out one behind the other and collects their scored tokens."""
    builder = LayoutBuilder()
    tokens: list[Tensor] = []
    scored: list[_Scored] = []
    ends: list[int] = []
    media: list[PlacedImage] = []
    for part in parts:
        placed = _place(part, builder)
        tokens += placed.tokens
        media += placed.media
        scored.append(_score_prompt(part.group, placed.prompt, len(ends)))
        for response, own in zip(part.group.responses, placed.responses, strict=True):
            scored.append(_score_response(response, own, len(ends)))
            ends.append(int(own.positions[-1]))
    facts = _sequence_facts(parts) | {"sequence_end_positions": torch.tensor(ends), "media": tuple(media)}
    return _assemble(torch.cat(tokens), builder.layout(), scored, facts)


@dataclass(frozen=True, eq=False, slots=True)
class _Placed:
    """Place of a response's tokens."""

    positions: Tensor
    """[R] packed position of each."""
    predictors: Tensor
    """[R] packed position of the token before each."""


@dataclass(frozen=True, eq=False, slots=True)
class _PlacedPart:
    """Place of a part."""

    tokens: list[Tensor]
    """What is packed for it."""
    prompt: Tensor
    """[P] packed position of each token of the prompt."""
    responses: list[_Placed]
    media: list[PlacedImage]


def _place(part: Part, builder: LayoutBuilder) -> _PlacedPart:
    """Adds the sequences of a part to the layout."""
    group, prompt = part.group, len(part.group.prompt)
    tokens: list[Tensor] = []
    of_prompt, before = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
    placed: dict[int, list[_Placed]] = {number: [] for number in range(len(group.responses))}
    media: list[PlacedImage] = []
    for text in part.texts:
        own = group.responses[text.response].tokens[text.start : text.end]
        sequence = torch.cat([before[: text.forked], own]) if text.start else own
        common = max(0, text.shared - prompt)
        assert torch.equal(sequence[:common], before[:common]), "a tree shares equal tokens"
        at = builder.add(text.length, text.shared)
        tokens += [sequence[common:]] if text.shared else [group.prompt, sequence]
        of_prompt = of_prompt if len(of_prompt) else at[:prompt]
        media += place_images(group.media, group.prompt, int(at[0])) if group.media and not text.shared else []
        begin = text.length - len(own)
        placed[text.response].append(_Placed(at[begin:], at[begin - 1 : -1]))
        before = sequence
    return _PlacedPart(tokens, of_prompt, [_join_places(places) for places in placed.values()], media)


def _join_places(places: Sequence[_Placed]) -> _Placed:
    """The place of a response of several texts."""
    if len(places) == 1:
        return places[0]
    return _Placed(torch.cat([p.positions for p in places]), torch.cat([p.predictors for p in places]))


_SEQUENCE_FACTS = (
    "sequence_group",
    "sequence_index",
    "sequence_siblings",
    "sequence_reward",
    "sequence_scores",
    "sequence_tokens",
)


def _sequence_facts(parts: Sequence[Part]) -> dict[str, Any]:
    """Per-response tensors that do not depend on tokens."""
    members = [(part, k, response) for part in parts for k, response in enumerate(part.group.responses)]
    siblings = [len(part.group.responses) if part.siblings is None else part.siblings for part, _, _ in members]
    indices = [k if part.members is None else part.members[k] for part, k, _ in members]
    rewards = [math.nan if response.reward is None else response.reward for _, _, response in members]
    return {
        "sequence_group": torch.tensor([part.group_index for part, _, _ in members]),
        "sequence_index": torch.tensor(indices),
        "sequence_siblings": torch.tensor(siblings),
        "sequence_reward": torch.tensor(rewards, dtype=torch.float32),
        "sequence_scores": torch.tensor([response.scores or () for _, _, response in members], dtype=torch.float32),
    }


def _membership(group: Tensor, index: Tensor, siblings: Tensor) -> dict[str, Any]:
    """`Microbatch.group_table` and `Microbatch.groups_complete` from the facts of the sequences."""
    groups, row = group.unique(return_inverse=True)
    table = torch.full((len(groups), int(siblings.max())), -1)
    table[row, index] = torch.arange(len(group))
    sizes = torch.empty_like(groups).scatter_(0, row, siblings)
    complete = bool(torch.equal((table >= 0).sum(dim=1), sizes))
    return {"group_table": table, "groups_complete": complete}


@dataclass(frozen=True, eq=False, slots=True)
class _Scored:
    """The scored tokens of one prompt or one response."""

    predictor_positions: Tensor
    token_positions: Tensor
    targets: Tensor
    sequence: int
    weights: Tensor
    response_positions: Tensor
    streams: dict[str, Tensor]


def _score_prompt(group: Group, positions: Tensor, sequence: int) -> _Scored:
    """Scored tokens of a prompt at packed positions [P]: each trained token is predicted by the one before it."""
    weights = group.prompt_weights if group.prompt_weights is not None else torch.zeros(len(group.prompt))
    at = (weights > 0).nonzero()[:, 0]
    unnumbered = torch.full_like(at, -1)
    return _Scored(positions[at - 1], positions[at], group.prompt[at], sequence, weights[at], unnumbered, {})


def _score_response(response: Response, placed: _Placed, sequence: int) -> _Scored:
    """Scored tokens of a response."""
    at = response.trainable.nonzero()[:, 0]
    streams = {name: stream[at] for name, stream in present_streams(response).items()}
    indices = torch.arange(len(at))
    weights = weights_of(response)[at]
    return _Scored(
        placed.predictors[at], placed.positions[at], response.tokens[at], sequence, weights, indices, streams
    )


def weights_of(response: Response) -> Tensor:
    """[R] weight of each token in the loss; 0: it is not trained."""
    weights = torch.ones(len(response.tokens)) if response.weights is None else response.weights
    return weights * response.trainable


def _assemble(tokens: Tensor, layout: Layout, scored: list[_Scored], facts: dict[str, Any]) -> Microbatch:
    rows = torch.cat([piece.predictor_positions for piece in scored])
    sequence = torch.cat([torch.full_like(piece.predictor_positions, piece.sequence) for piece in scored])
    streams: dict[str, Any] = concatenate_streams(
        [piece.streams for piece in scored], [len(piece.targets) for piece in scored]
    )
    return Microbatch(
        tokens=tokens,
        layout=layout,
        predictor_positions=rows,
        token_positions=torch.cat([piece.token_positions for piece in scored]),
        gather_rounds=_rounds(rows),
        targets=torch.cat([piece.targets for piece in scored]),
        sequence=sequence,
        weights=torch.cat([piece.weights for piece in scored]),
        response_positions=torch.cat([piece.response_positions for piece in scored]),
        sequence_tokens=torch.bincount(sequence, minlength=len(facts["sequence_group"])),
        **facts,
        **_membership(facts["sequence_group"], facts["sequence_index"], facts["sequence_siblings"]),
        **streams,
    )


def _starts(sizes: list[int]) -> list[int]:
    """Start of each item if they follow one another."""
    return [0, *accumulate(sizes)][: len(sizes)]


def _rounds(rows: Tensor) -> tuple[Tensor, ...]:
    """Partitions the scored tokens so that no position is used twice in a round: the k-th use is in round k."""
    order = torch.sort(rows, stable=True).indices
    ordered = rows[order]
    new_row = torch.ones_like(ordered, dtype=torch.bool)
    new_row[1:] = ordered[1:] != ordered[:-1]
    index = torch.arange(len(rows))
    use = torch.empty_like(rows)
    use[order] = index - torch.cummax(torch.where(new_row, index, 0), dim=0).values if len(rows) else index
    return tuple((use == k).nonzero()[:, 0] for k in range(int(use.max()) + 1 if len(rows) else 0))
