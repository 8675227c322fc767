"""Packing of groups into microbatches under a token budget, with shared prompts; denominators of the step.

Stands between credit and scoring. Pure: no settings, no devices; the same groups always give the same microbatches.
There is no padding: a group that exceeds the budget is split between its responses and its prompt repeated, which
changes the cost and not the result.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from burnish.streams import concatenate_streams, present_streams
from burnish.types import Denominator, Group, Layout, Microbatch, Response, Segment


@dataclass(frozen=True, slots=True)
class CostModel:
    """Cost of a packed token, of an attention pair and of a scored token, in any one unit (say FLOPs)."""

    per_token: float = 1.0
    """Work of the token-wise layers for one token; about 2 × (parameters outside the embedding)."""
    per_pair: float = 0.0
    """Work of attention for one (query, key) pair over all layers; about 4 × layers × heads × head size."""
    per_scored: float = 0.0
    """Work of the output head for one scored token; about 2 × vocabulary × hidden size."""


@dataclass(frozen=True, slots=True)
class Part:
    """A group, or some of its responses when the group was split, as one piece of a microbatch."""

    group: Group
    group_index: int
    """Index in the step's groups."""
    first_response: int = 0
    """Index of its first response in the whole group."""
    siblings: int | None = None
    """Responses of the whole group; None: the group is whole."""

    @property
    def num_tokens(self) -> int:
        return self.group.num_tokens

    def cost(self, model: CostModel) -> float:
        """Token-wise work, causal attention (a triangle for every segment, and a block for its context), head."""
        pairs = 0.0
        for segment in part_segments(self.group, start=0):
            pairs += segment.length * (segment.length + 1) / 2 + segment.length * segment.context_length
        scored = sum(int(response.trainable.sum()) for response in self.group.responses) if model.per_scored else 0
        return model.per_token * self.num_tokens + model.per_pair * pairs + model.per_scored * scored


def pack(
    groups: Sequence[Group], budget: int, cost: CostModel | None = None, share: bool = True, start: int = 0
) -> list[Microbatch]:
    """Packs the groups of one step.

    Args:
        groups: the groups of the step, in the step's order.
        budget: maximum number of tokens in a microbatch (shared prompts count once); raised to the longest prompt with
            one response.
        cost: cost that is balanced between microbatches; by default the number of tokens.
        share: False computes every prompt once per response (for models that cannot share prompts).
        start: index of the first group in its step, if a step is packed in several calls.

    Returns:
        As few microbatches as longest-first packing finds, balanced by cost, ordered by their earliest group. Only a
        group that exceeds the budget is in several of them.
    """
    budget = max([budget, *(len(group.prompt) + len(r.tokens) for group in groups for r in group.responses)])
    bundles = [
        b for index, group in enumerate(groups, start) for b in _bundles(_split(group, index, budget, share), budget)
    ]
    bins = _balance(bundles, budget, cost or CostModel())
    return [_build(bin_parts) for bin_parts in bins]


def pack_singly(groups: Sequence[Group]) -> list[Microbatch]:
    """Every response in a microbatch of its own, with its prompt: the baseline for comparisons."""
    return [_build([part]) for index, group in enumerate(groups) for part in _split(group, index, 0, share=False)]


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
        layout=_join_layouts([microbatch.layout for microbatch in microbatches], offsets),
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
        **streams,
        **facts,
        **_membership(facts["sequence_group"], facts["sequence_index"], facts["sequence_siblings"]),
    )


def count_denominators(groups: Sequence[Group]) -> dict[Denominator, float]:
    """Counts the denominators of losses from the groups themselves: before any forward pass, for any packing."""
    counts = dict.fromkeys(Denominator, 0.0)
    for group in groups:
        if group.scored_only:
            continue
        counts[Denominator.GROUPS] += 1
        counts[Denominator.SEQUENCES] += len(group.responses)
        if group.prompt_weights is not None:
            counts[Denominator.TOKENS] += int((group.prompt_weights > 0).sum())
            counts[Denominator.WEIGHT] += float(group.prompt_weights.sum(dtype=torch.float64))
        for index, response in enumerate(group.responses):
            weight = float(_weights(response).sum(dtype=torch.float64))
            counts[Denominator.TOKENS] += int(response.trainable.sum())
            counts[Denominator.WEIGHT] += weight
            counts[Denominator.CHOSEN_WEIGHT] += weight if index == 0 else 0.0
            counts[Denominator.DESIRABLE] += response.reward == 1
            counts[Denominator.UNDESIRABLE] += response.reward == 0
    return counts


def part_segments(group: Group, start: int) -> list[Segment]:
    """The segments of a group packed from position `start`: prompt and first response, then each further response."""
    prompt = len(group.prompt)
    first = Segment(start=start, length=prompt + len(group.responses[0].tokens))
    segments = [first]
    row = start + first.length
    for response in group.responses[1:]:
        segments.append(Segment(row, len(response.tokens), context_start=start, context_length=prompt))
        row += len(response.tokens)
    return segments


def _split(group: Group, index: int, budget: int, share: bool) -> list[Part]:
    """Splits a group between responses so that every part fits; trained prompt tokens stay with the first part."""
    pieces: list[list[Response]] = [[]]
    size = len(group.prompt)
    for response in group.responses:
        length = len(response.tokens)
        if pieces[-1] and (not share or size + length > budget):
            pieces.append([])
            size = len(group.prompt)
        pieces[-1].append(response)
        size += length
    parts, first = [], 0
    for piece in pieces:
        weights = group.prompt_weights if first == 0 else None
        subgroup = replace(group, responses=tuple(piece), prompt_weights=weights)
        parts.append(Part(subgroup, index, first, len(group.responses)))
        first += len(piece)
    return parts


def _bundles(parts: list[Part], budget: int) -> list[list[Part]]:
    """Parts of one group that go into one microbatch together: as many as fit, in their order."""
    bundles: list[list[Part]] = [[]]
    size = 0
    for part in parts:
        if bundles[-1] and size + part.num_tokens > budget:
            bundles.append([])
            size = 0
        bundles[-1].append(part)
        size += part.num_tokens
    return bundles


def _balance(bundles: list[list[Part]], budget: int, cost: CostModel) -> list[list[Part]]:
    """Distributes bundles over as few bins as it finds, costliest first, each to the cheapest bin with room."""
    costs = [sum(part.cost(cost) for part in bundle) for bundle in bundles]
    sizes = [sum(part.num_tokens for part in bundle) for bundle in bundles]
    order = sorted(range(len(bundles)), key=lambda i: (-costs[i], i))
    num_bins = max(1, -(-sum(sizes) // budget))
    while (bins := _distribute(sizes, costs, order, num_bins, budget)) is None:
        num_bins += 1
    filled = [sorted(members) for members in bins if members]
    return [[part for i in members for part in bundles[i]] for members in sorted(filled)]


def _distribute(
    sizes: list[int], costs: list[float], order: list[int], num_bins: int, budget: int
) -> list[list[int]] | None:
    """One attempt with a fixed number of bins; None if a part does not fit."""
    bins: list[list[int]] = [[] for _ in range(num_bins)]
    tokens = [0] * num_bins
    heap = [(0.0, k) for k in range(num_bins)]
    for i in order:
        full = []
        while heap and tokens[heap[0][1]] + sizes[i] > budget:
            full.append(heapq.heappop(heap))
        if not heap:
            return None
        load, k = heapq.heappop(heap)
        bins[k].append(i)
        tokens[k] += sizes[i]
        for entry in [*full, (load + costs[i], k)]:
            heapq.heappush(heap, entry)
    return bins


def _build(parts: list[Part]) -> Microbatch:
    """Lays the parts out one after another and collects their scored tokens."""
    tokens: list[Tensor] = []
    positions: list[Tensor] = []
    branches: list[Tensor] = []
    segments: list[Segment] = []
    scored: list[_Scored] = []
    ends: list[int] = []
    row = num_sequences = 0
    for part in parts:
        group, prompt = part.group, len(part.group.prompt)
        assert not group.media, "groups with images are recorded, and not computed yet"
        part_layout = part_segments(group, row)
        segments += part_layout
        scored.append(_score_prompt(group, row, num_sequences))
        tokens.append(group.prompt)
        positions.append(torch.arange(prompt))
        branches.append(torch.zeros(prompt, dtype=torch.int64))
        end_of_prompt = row + prompt
        row = end_of_prompt
        for branch, response in enumerate(group.responses, start=1):
            length = len(response.tokens)
            scored.append(_score_response(response, row, end_of_prompt - 1, num_sequences))
            tokens.append(response.tokens)
            positions.append(torch.arange(prompt, prompt + length))
            branches.append(torch.full((length,), branch))
            row += length
            ends.append(row - 1)
            num_sequences += 1
    sizes = torch.tensor([part.num_tokens for part in parts])
    layout = Layout(
        segments=tuple(segments),
        group=torch.repeat_interleave(torch.arange(len(parts)), sizes),
        branch=torch.cat(branches),
        positions=torch.cat(positions),
    )
    facts = _sequence_facts(parts) | {"sequence_end_positions": torch.tensor(ends)}
    return _assemble(torch.cat(tokens), layout, scored, facts)


_SEQUENCE_FACTS = (
    "sequence_group",
    "sequence_index",
    "sequence_siblings",
    "sequence_reward",
    "sequence_scores",
    "sequence_tokens",
)


def _sequence_facts(parts: list[Part]) -> dict[str, Any]:
    """Per-response tensors that do not depend on tokens."""
    members = [(part, k, response) for part in parts for k, response in enumerate(part.group.responses)]
    siblings = [len(part.group.responses) if part.siblings is None else part.siblings for part, _, _ in members]
    rewards = [math.nan if response.reward is None else response.reward for _, _, response in members]
    return {
        "sequence_group": torch.tensor([part.group_index for part, _, _ in members]),
        "sequence_index": torch.tensor([part.first_response + k for part, k, _ in members]),
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


def _score_prompt(group: Group, row: int, sequence: int) -> _Scored:
    """Scored tokens of a prompt: each trained token is predicted by the one before it."""
    weights = group.prompt_weights if group.prompt_weights is not None else torch.zeros(len(group.prompt))
    at = (weights > 0).nonzero()[:, 0]
    return _Scored(row + at - 1, row + at, group.prompt[at], sequence, weights[at], torch.full_like(at, -1), {})


def _score_response(response: Response, row: int, last_prompt_row: int, sequence: int) -> _Scored:
    """Scored tokens of a response: the last prompt token predicts the first, each token the next one."""
    predictors = torch.arange(row - 1, row - 1 + len(response.tokens))
    predictors[0] = last_prompt_row
    at = response.trainable.nonzero()[:, 0]
    streams = {name: stream[at] for name, stream in present_streams(response).items()}
    indices = torch.arange(len(at))
    weights = _weights(response)[at]
    return _Scored(predictors[at], row + at, response.tokens[at], sequence, weights, indices, streams)


def _weights(response: Response) -> Tensor:
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


def _join_layouts(layouts: Sequence[Layout], rows: list[int]) -> Layout:
    groups = _starts([int(layout.group[-1]) + 1 for layout in layouts])
    return Layout(
        segments=tuple(
            replace(segment, start=segment.start + row, context_start=segment.context_start + row)
            for layout, row in zip(layouts, rows, strict=True)
            for segment in layout.segments
        ),
        group=torch.cat([layout.group + at for layout, at in zip(layouts, groups, strict=True)]),
        branch=torch.cat([layout.branch for layout in layouts]),
        positions=torch.cat([layout.positions for layout in layouts]),
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
