"""Prefix trees: sequences that begin alike, in an order in which each shares most with the one before it.

Tokens that several sequences share have the same hidden states in all of them, so they are computed once. A tree is
kept as the depth-first order of its leaves and the number of tokens that each leaf shares with the leaf before it (as a
suffix array keeps a suffix tree, with the array of longest common prefixes). What a tree costs, how it is packed and
how it is cut follow from these numbers. Imports only torch and numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Tokens = NDArray[np.integer[Any]]
MIN_SAVED = 64
"""Tokens that a common beginning must save to be computed once: over all of its sequences in `tree_of`; between two
neighbors where their order is given."""


@dataclass(frozen=True, slots=True)
class PrefixTree:
    """Tree of n sequences, see the module. Numbers count tokens after the prompt of a group.

    Example, "a b c", "a d" and "a b e" after one prompt: ``PrefixTree(order=(0, 2, 1), shared=(0, 2, 1))``.
    """

    order: tuple[int, ...]
    """Index of each sequence, in depth-first order: a permutation of range(n)."""
    shared: tuple[int, ...]
    """Tokens that each has in common with the one before it in the order; 0 for the first."""

    def __post_init__(self) -> None:
        assert sorted(self.order) == list(range(len(self.order))), f"each sequence is once in a tree: {self.order}"
        assert len(self.shared) == len(self.order), "every sequence says how much it shares"
        assert self.order and self.shared[0] == 0, "the first sequence shares with none"

    @classmethod
    def flat(cls, count: int) -> Self:
        """The tree of sequences that share their prompt alone, at least one."""
        return cls(tuple(range(count)), (0,) * count)

    @property
    def is_flat(self) -> bool:
        """Whether sequences share their prompt alone."""
        return not any(self.shared)

    def subset(self, members: Sequence[int]) -> Self:
        """The tree of some sequences, which are numbered anew in the order of `members`, ascending.

        Two sequences share what all between them share.
        """
        number = {member: index for index, member in enumerate(members)}
        order, shared, common = [], [], 0
        for index, size in zip(self.order, self.shared, strict=True):
            common = min(common, size)
            if index in number:
                order.append(number[index])
                shared.append(common)
                common = np.iinfo(np.int64).max
        return type(self)(tuple(order), tuple(shared))


@dataclass(frozen=True, slots=True)
class Fork:
    """Begin of a further text of a response, which leaves the text before it somewhere.

    A response of several texts is one whose earlier turns a template writes anew once later ones follow. Example, a
    thought and an answer, then the answer without its thought and a further turn: ``Fork(start=9, shared=0)``.
    """

    start: int
    """Index of the first token of the text in the response's tokens."""
    shared: int
    """Tokens after the prompt that it has in common with the text before it."""


def tree_of(sequences: Sequence[Tensor], min_saved: int = MIN_SAVED) -> PrefixTree | None:
    """The prefix tree of token sequences [L_i]; None: they share too little.

    Order of the leaves: subtrees before single sequences, so that the longest chain is packed as one run of tokens;
    otherwise the given order. Common beginnings that save fewer than `min_saved` tokens are not shared.
    """
    if len(sequences) < 2:
        return None
    arrays = [sequence.numpy() for sequence in sequences]
    keys = [array.astype(">i8").tobytes() for array in arrays]
    ranked = sorted(range(len(arrays)), key=keys.__getitem__)
    common = np.array([0, *(common_prefix(arrays[a], arrays[b]) for a, b in pairwise(ranked))])
    if common.sum() < min_saved:
        return None
    order, shared = _leaves(np.array(ranked), common, min_saved)
    return PrefixTree(tuple(order), tuple(shared)) if any(shared) else None


def common_prefix(one: Tensor | Tokens, other: Tensor | Tokens) -> int:
    """Number of tokens with which both sequences begin."""
    one, other = np.asarray(one), np.asarray(other)
    size = min(len(one), len(other))
    different = np.flatnonzero(one[:size] != other[:size])
    return int(different[0]) if len(different) else size


def _leaves(ranked: NDArray[np.int64], common: NDArray[np.int64], min_saved: int) -> tuple[list[int], list[int]]:
    """Depth-first order of the leaves, and what each shares with the one before it.

    Args:
        ranked: [n] indices of the sequences, sorted by their tokens.
        common: [n] tokens that each of them has in common with the one before it.
        min_saved: see `tree_of`.
    """
    order: list[int] = []
    shared: list[int] = []
    waiting = [(0, len(ranked), 0, 0)]
    while waiting:  # of subtrees ranked[first:last]: tokens shared by all of it, and with the leaf before it
        first, last, depth, before = waiting.pop()
        if last - first == 1:
            order.append(int(ranked[first]))
            shared.append(before)
            continue
        inside = common[first + 1 : last]
        branching = int(inside.min())
        if (last - first - 1) * (branching - depth) >= min_saved:
            depth = branching
        borders = [first, *(np.flatnonzero(inside == branching) + first + 1).tolist(), last]
        children = sorted(pairwise(borders), key=lambda child: (child[1] - child[0] == 1, ranked[slice(*child)].min()))
        followers = [(*child, depth, depth) for child in children[1:]]
        waiting += [*reversed(followers), (*children[0], depth, before)]
    return order, shared
