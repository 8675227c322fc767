"""Packing of groups into microbatches under a token budget, with shared prefixes; denominators of the step.

Stands between credit and scoring. Pure: no settings, no devices; the same groups always give the same microbatches.
There is no padding: a group that exceeds the budget is cut between its responses, where the fewest operations have to
be repeated, which changes the cost and not the result.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from burnish.microbatch import CostModel, Part, build, weights_of
from burnish.prefix_tree import PrefixTree
from burnish.types import Denominator, Group, Microbatch


def pack(
    groups: Sequence[Group],
    budget: int,
    cost: CostModel | None = None,
    share: bool = True,
    start: int = 0,
    ranks: int = 1,
) -> list[Microbatch]:
    """Packs the groups of one step.

    Args:
        groups: the groups of the step, in the step's order.
        budget: maximum number of tokens in a microbatch (shared ones count once); raised to the longest prompt with one
            response.
        cost: cost that is balanced between microbatches; by default the number of tokens.
        share: False computes every sequence whole (for models that cannot share prompts).
        start: index of the first group in its step, if a step is packed in several calls.
        ranks: processes that share the microbatches.

    Returns:
        As few microbatches as longest-first packing finds, a multiple of the ranks where there are enough groups,
        balanced by cost, ordered by their earliest group. Only a group that exceeds the budget is in several of them.
    """
    cost = cost or CostModel()
    budget = max([budget, *(_smallest_budget(group, share) for group in groups)])
    bundles = [
        b
        for index, group in enumerate(groups, start)
        for b in _bundles(_cut(group, index, budget, share, cost), budget)
    ]
    bins = _balance(bundles, budget, cost, ranks)
    return [build(bin_parts) for bin_parts in bins]


def pack_singly(groups: Sequence[Group]) -> list[Microbatch]:
    """Every response in a microbatch of its own, with its prompt: the baseline for comparisons."""
    return [build([part]) for index, group in enumerate(groups) for part in _singly(group, index)]


def whole_parts(groups: Sequence[Group], share: bool = True) -> list[Part]:
    """Groups before any budget cuts them: what a step costs, and how many tokens it computes."""
    if share:
        return [Part(group, index) for index, group in enumerate(groups)]
    return [part for index, group in enumerate(groups) for part in _singly(group, index)]


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
            weight = float(weights_of(response).sum(dtype=torch.float64))
            counts[Denominator.TOKENS] += int(response.trainable.sum())
            counts[Denominator.WEIGHT] += weight
            counts[Denominator.CHOSEN_WEIGHT] += weight if index == 0 else 0.0
            counts[Denominator.DESIRABLE] += response.reward == 1
            counts[Denominator.UNDESIRABLE] += response.reward == 0
    return counts


def _smallest_budget(group: Group, share: bool) -> int:
    """Tokens of the largest response with its prompt, which no budget cuts."""
    if share or not any(response.forks for response in group.responses):
        return len(group.prompt) + max(len(response.tokens) for response in group.responses)
    return max(part.num_tokens for part in _singly(group, 0))


def _singly(group: Group, index: int) -> list[Part]:
    """Every response as a part of its own that shares nothing; trained prompt tokens stay with the first."""
    whole = len(group.responses)
    return [Part(own, index, (number,), siblings=whole, share=False) for number, own in enumerate(group.expanded())]


def _cut(group: Group, index: int, budget: int, share: bool, cost: CostModel) -> list[Part]:
    """Cuts a group between responses so that every part fits; trained prompt tokens stay with the first part."""
    if not share:
        return _singly(group, index)
    if len(group.responses) == 1 or group.num_tokens <= budget:
        return [Part(group, index)]
    tree = group.tree or PrefixTree.flat(len(group.responses))
    borders = _cheapest_cuts(group, tree, budget, cost)
    parts = []
    for first, last in zip([0, *borders], [*borders, len(tree.order)], strict=True):
        members = tuple(sorted(tree.order[first:last]))
        own = group.subset(members)
        if first:
            own = replace(own, prompt_weights=None)
        parts.append(Part(own, index, members, siblings=len(group.responses)))
    return parts


def _cheapest_cuts(group: Group, tree: PrefixTree, budget: int, cost: CostModel) -> list[int]:
    """Places in the order of the tree before which it is cut, so that every part fits the budget.

    A cut before a response repeats what it shares with the one before it, whatever the other cuts are: the sum is
    smallest over all ways to cut the order. Of equal ones, the first parts are the largest.
    """
    prompt, count = len(group.prompt), len(tree.order)
    whole = [prompt + len(group.responses[number].tokens) for number in tree.order]
    shared = [prompt + size for size in tree.shared]
    cheapest, following = [0.0] * (count + 1), [count] * count
    for first in reversed(range(count)):
        size, best = whole[first], math.inf
        for last in range(first + 1, count + 1):  # of a part that ends before `last`
            repeated = cheapest[last] + (cost.prefix(shared[last]) if last < count else 0.0)
            if repeated <= best:
                best, following[first] = repeated, last
            if last < count:
                size += whole[last] - shared[last]
                if size > budget:
                    break
        cheapest[first] = best
    cuts, place = [], following[0]
    while place < count:
        cuts.append(place)
        place = following[place]
    return cuts


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


def _balance(bundles: list[list[Part]], budget: int, cost: CostModel, ranks: int) -> list[list[Part]]:
    """Distributes bundles over as few bins as it finds, costliest first, each to the cheapest bin with room."""
    costs = [sum(part.cost(cost) for part in bundle) for bundle in bundles]
    sizes = [sum(part.num_tokens for part in bundle) for bundle in bundles]
    order = sorted(range(len(bundles)), key=lambda i: (-costs[i], i))
    num_bins = _multiple(max(1, -(-sum(sizes) // budget)), ranks)
    while (bins := _distribute(sizes, costs, order, num_bins, budget)) is None:
        num_bins = _multiple(num_bins + 1, ranks)
    filled = [sorted(members) for members in bins if members]
    return [[part for i in members for part in bundles[i]] for members in sorted(filled)]


def _multiple(count: int, of: int) -> int:
    return -(-count // of) * of


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
