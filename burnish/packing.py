"""Groups → microbatches under a token budget, prompts shared; and the denominators of the step.

Stands between credit and scoring. Pure: no settings, no devices, the same groups always give the same microbatches.
Nothing is padded and nothing is lost: a group that exceeds the budget is split between its responses and its prompt
repeated, which changes the cost and not the result.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from burnish.types import Denominator, Group, Layout, Microbatch, Response, Segment

STREAMS = ("sampler_logprobs", "advantages", "reference_logprobs", "teacher_logprobs", "values")
"""The token-aligned float streams of a response that travel with its scored tokens."""


@dataclass(frozen=True, slots=True)
class CostModel:
    """What a packed token and a pair of tokens that attend to each other cost, in any one unit (say FLOPs)."""

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

    @property
    def num_tokens(self) -> int:
        return self.group.num_tokens

    def cost(self, model: CostModel) -> float:
        """Token-wise work, causal attention (every segment sees itself, a triangle, and its context, a block), head."""
        pairs = 0.0
        for segment in part_segments(self.group, start=0):
            pairs += segment.length * (segment.length + 1) / 2 + segment.length * segment.context_length
        scored = sum(int(response.trainable.sum()) for response in self.group.responses) if model.per_scored else 0
        return model.per_token * self.num_tokens + model.per_pair * pairs + model.per_scored * scored


def pack(groups: Sequence[Group], budget: int, cost: CostModel | None = None, share: bool = True) -> list[Microbatch]:
    """Packs the groups of one step.

    Args:
        groups: the groups of the step, in the step's order.
        budget: most tokens in a microbatch (shared prompts count once); where one prompt with one response has more,
            so many.
        cost: what to balance between microbatches; by default tokens alone.
        share: False computes every prompt once per response (for models that cannot share).

    Returns:
        As few microbatches as longest-first packing finds, balanced by cost, ordered by their earliest group.
    """
    budget = max([budget, *(len(group.prompt) + len(r.tokens) for group in groups for r in group.responses)])
    parts = [part for index, group in enumerate(groups) for part in _split(group, index, budget, share)]
    bins = _balance(parts, budget, cost or CostModel())
    return [_build(bin_parts) for bin_parts in bins]


def count_denominators(groups: Sequence[Group]) -> dict[Denominator, float]:
    """Counts what losses divide by, from the groups themselves: before any forward, whatever the packing."""
    counts = dict.fromkeys(Denominator, 0.0)
    for group in groups:
        counts[Denominator.GROUPS] += 1
        counts[Denominator.SEQUENCES] += len(group.responses)
        if group.prompt_weights is not None:
            counts[Denominator.TOKENS] += int((group.prompt_weights > 0).sum())
            counts[Denominator.WEIGHT] += float(group.prompt_weights.sum(dtype=torch.float64))
        for response in group.responses:
            counts[Denominator.TOKENS] += int(response.trainable.sum())
            counts[Denominator.WEIGHT] += float(_weights(response).sum(dtype=torch.float64))
    return counts


def part_segments(group: Group, start: int) -> list[Segment]:
    """The segments of a group packed from row `start`: prompt and first response, then each further response."""
    prompt = len(group.prompt)
    first = Segment(start=start, length=prompt + len(group.responses[0].tokens))
    segments = [first]
    row = start + first.length
    for response in group.responses[1:]:
        segments.append(Segment(row, len(response.tokens), context_start=start, context_length=prompt))
        row += len(response.tokens)
    return segments


def _split(group: Group, index: int, budget: int, share: bool) -> list[Part]:
    """Cuts a group between responses so that every part fits; trained prompt tokens stay with the first part."""
    pieces: list[list[Response]] = [[]]
    size = len(group.prompt)
    for response in group.responses:
        length = len(response.tokens)
        if pieces[-1] and (not share or size + length > budget):
            pieces.append([])
            size = len(group.prompt)
        pieces[-1].append(response)
        size += length
    return [
        Part(replace(group, responses=tuple(piece), prompt_weights=group.prompt_weights if k == 0 else None), index)
        for k, piece in enumerate(pieces)
    ]


def _balance(parts: list[Part], budget: int, cost: CostModel) -> list[list[Part]]:
    """Distributes parts over the fewest bins found, costliest first, each to the cheapest bin with room."""
    costs = [part.cost(cost) for part in parts]
    order = sorted(range(len(parts)), key=lambda i: (-costs[i], i))
    num_bins = max(1, -(-sum(part.num_tokens for part in parts) // budget))
    while (bins := _distribute(parts, costs, order, num_bins, budget)) is None:
        num_bins += 1
    filled = [sorted(members) for members in bins if members]
    return [[parts[i] for i in members] for members in sorted(filled)]


def _distribute(
    parts: list[Part], costs: list[float], order: list[int], num_bins: int, budget: int
) -> list[list[int]] | None:
    """One attempt with a fixed number of bins; None if some part found no room."""
    bins: list[list[int]] = [[] for _ in range(num_bins)]
    tokens = [0] * num_bins
    heap = [(0.0, k) for k in range(num_bins)]
    for i in order:
        full = []
        while heap and tokens[heap[0][1]] + parts[i].num_tokens > budget:
            full.append(heapq.heappop(heap))
        if not heap:
            return None
        load, k = heapq.heappop(heap)
        bins[k].append(i)
        tokens[k] += parts[i].num_tokens
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
    row = num_sequences = 0
    for part in parts:
        group, prompt = part.group, len(part.group.prompt)
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
            num_sequences += 1
    sizes = torch.tensor([part.num_tokens for part in parts])
    layout = Layout(
        segments=tuple(segments),
        group=torch.repeat_interleave(torch.arange(len(parts)), sizes),
        branch=torch.cat(branches),
        positions=torch.cat(positions),
    )
    sequence_group = [part.group_index for part in parts for _ in part.group.responses]
    return _assemble(torch.cat(tokens), layout, scored, torch.tensor(sequence_group))


@dataclass(frozen=True, eq=False, slots=True)
class _Scored:
    """The scored tokens of one prompt or one response."""

    rows: Tensor
    targets: Tensor
    sequence: int
    weights: Tensor
    streams: dict[str, Tensor]


def _score_prompt(group: Group, row: int, sequence: int) -> _Scored:
    """A trained prompt token is predicted by the row before it."""
    weights = group.prompt_weights if group.prompt_weights is not None else torch.zeros(len(group.prompt))
    at = (weights > 0).nonzero()[:, 0]
    return _Scored(row + at - 1, group.prompt[at], sequence, weights[at], {})


def _score_response(response: Response, row: int, last_prompt_row: int, sequence: int) -> _Scored:
    """A response's first token is predicted by the last prompt row, every other token by the row before it."""
    predictors = torch.arange(row - 1, row - 1 + len(response.tokens))
    predictors[0] = last_prompt_row
    at = response.trainable.nonzero()[:, 0]
    streams = {name: stream[at] for name in STREAMS if (stream := getattr(response, name)) is not None}
    return _Scored(predictors[at], response.tokens[at], sequence, _weights(response)[at], streams)


def _weights(response: Response) -> Tensor:
    weights = torch.ones(len(response.tokens)) if response.weights is None else response.weights
    return weights * response.trainable


def _assemble(tokens: Tensor, layout: Layout, scored: list[_Scored], sequence_group: Tensor) -> Microbatch:
    rows = torch.cat([piece.rows for piece in scored])
    sequence = torch.cat([torch.full_like(piece.rows, piece.sequence) for piece in scored])
    streams: dict[str, Any] = {}
    for name in STREAMS:
        if any(name in piece.streams for piece in scored):
            streams[name] = torch.cat([piece.streams.get(name, torch.zeros(len(piece.rows))) for piece in scored])
    return Microbatch(
        tokens=tokens,
        layout=layout,
        rows=rows,
        rounds=_rounds(rows),
        targets=torch.cat([piece.targets for piece in scored]),
        sequence=sequence,
        weights=torch.cat([piece.weights for piece in scored]),
        sequence_group=sequence_group,
        sequence_tokens=torch.bincount(sequence, minlength=len(sequence_group)),
        **streams,
    )


def _rounds(rows: Tensor) -> tuple[Tensor, ...]:
    """Partitions the scored tokens so that no packed row is used twice in a round: the k-th use is in round k."""
    order = torch.sort(rows, stable=True).indices
    ordered = rows[order]
    new_row = torch.ones_like(ordered, dtype=torch.bool)
    new_row[1:] = ordered[1:] != ordered[:-1]
    index = torch.arange(len(rows))
    use = torch.empty_like(rows)
    use[order] = index - torch.cummax(torch.where(new_row, index, 0), dim=0).values if len(rows) else index
    return tuple((use == k).nonzero()[:, 0] for k in range(int(use.max()) + 1 if len(rows) else 0))
