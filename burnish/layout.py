"""Layout of packed tokens: which of them attend to which, and a builder that lays sequences of prefix trees in a row.

Read by the attention kernels (`model.segments`, `model.flex`), built by `microbatch` and by the prefill of samplers.
Imports only torch.

Axes in comments: N packed tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive packed tokens that attend causally to each other, and to all of their context: earlier tokens of the
    same sequence, which were packed for sequences before it.

    A group is laid out as its prompt and first response in one segment, and one further segment per further response
    whose context is the prompt. Example, prompt of 3 and responses of 2 and 4 packed from position 0:
    ``Segment(start=0, length=5)``, ``Segment(start=5, length=4, context=((0, 3),))``. In a prefix tree a context has
    several pieces, one for each segment on the way from the root.
    """

    start: int
    """First packed position."""
    length: int
    """Number of tokens."""
    context: tuple[tuple[int, int], ...] = ()
    """Pieces (first packed position, number of tokens), in the order of the sequence. Each is the beginning of an
    earlier segment."""

    @property
    def context_length(self) -> int:
        """Tokens of the context, which also is the position of this segment's first token in its sequence."""
        return sum(length for _, length in self.context)


@dataclass(frozen=True, eq=False, slots=True)
class Layout:
    """Attention layout of packed tokens; passed through the model's forward as the argument ``layout``.

    Sequences are numbered in their packed order, which is depth-first in every prefix tree: the sequences that a token
    belongs to are consecutive, from `entry` (for which it was packed) to `exit`. Token i attends to token j iff
    entry[j] <= entry[i] <= exit[j] and position j <= position i, or both are in one block (and within the window of a
    sliding layer, which compares positions too: position i - position j < window).
    """

    segments: tuple[Segment, ...]
    """In their packed order, without gaps: they cover all N tokens."""
    entry: Tensor
    """[N] int64, number of the first sequence that has the token."""
    exit: Tensor
    """[N] int64, number of the last sequence that has the token."""
    positions: Tensor
    """[N] int64, position in the unpacked sequence; every response starts at P."""
    blocks: Tensor | None = None
    """[N] int64, number of the block of tokens that also attend to each other in both directions (those of one image);
    -1: none. None: there are no such blocks."""

    def to(self, device: torch.device) -> Layout:
        """The same layout on a device; copies to CUDA do not wait for it."""
        entry, exit_, positions = (move(tensor, device) for tensor in (self.entry, self.exit, self.positions))
        blocks = None if self.blocks is None else move(self.blocks, device)
        return replace(self, entry=entry, exit=exit_, positions=positions, blocks=blocks)


def move(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device; a copy to CUDA does not wait for it."""
    pinned = tensor.pin_memory() if device.type == "cuda" else tensor
    return pinned.to(device, non_blocking=True)


class LayoutBuilder:
    """Builder of a layout, sequence by sequence, in the depth-first order of their trees.

    Example, the group of `Segment`: ``add(5)`` gives the packed positions [0, 1, 2, 3, 4] of the first sequence, and
    ``add(7, shared=3)`` those of the second: [0, 1, 2, 5, 6, 7, 8].
    """

    def __init__(self) -> None:
        self.num_tokens = 0
        """Packed so far."""
        self._segments: list[Segment] = []
        self._entries: list[int] = []
        """Number of the sequence for which each segment was packed."""
        self._exits: dict[int, Tensor] = {}
        """First position of a segment → exits of its tokens."""
        self._path: tuple[tuple[int, int], ...] = ()
        """Pieces of the latest sequence."""
        self._rows = torch.empty(0, dtype=torch.int64)
        """Packed positions of the latest sequence."""
        self._count = 0

    def add(self, length: int, shared: int = 0) -> Tensor:
        """Adds a sequence.

        Args:
            length: its tokens.
            shared: how many of them are those of the sequence before it; the others are packed behind it.

        Returns:
            [length] int64, the packed position of each of its tokens.
        """
        assert 0 <= shared <= min(length, len(self._rows)), f"{shared} of {length} tokens are shared"
        context = _first_tokens(self._path, shared)
        for start, size in context:
            self._exits[start][:size] = self._count
        own = length - shared
        if own:
            self._segments.append(Segment(self.num_tokens, own, context))
            self._entries.append(self._count)
            self._exits[self.num_tokens] = torch.full((own,), self._count)
            context = (*context, (self.num_tokens, own))
        self._path = context
        new = torch.arange(self.num_tokens, self.num_tokens + own)
        self._rows = torch.cat([self._rows[:shared], new]) if shared else new
        self.num_tokens += own
        self._count += 1
        return self._rows

    def layout(self) -> Layout:
        """The layout of all sequences."""
        lengths = torch.tensor([segment.length for segment in self._segments])
        begins = [(segment.context_length, segment.length) for segment in self._segments]
        return Layout(
            segments=tuple(self._segments),
            entry=torch.repeat_interleave(torch.tensor(self._entries), lengths),
            exit=torch.cat([self._exits[segment.start] for segment in self._segments]),
            positions=torch.cat([torch.arange(begin, begin + size) for begin, size in begins]),
        )


def _first_tokens(pieces: Sequence[tuple[int, int]], count: int) -> tuple[tuple[int, int], ...]:
    """The pieces of the first `count` tokens of a sequence."""
    found: list[tuple[int, int]] = []
    for start, length in pieces:
        if count <= 0:
            break
        found.append((start, min(length, count)))
        count -= length
    return tuple(found)


def join_layouts(layouts: Sequence[Layout], starts: Sequence[int]) -> Layout:
    """The layout of microbatches one behind the other; `starts` are the first packed positions of each."""
    counts = [int(layout.exit.max()) + 1 for layout in layouts]
    numbers = list(accumulate(counts, initial=0))[:-1]
    return Layout(
        segments=tuple(
            replace(
                segment,
                start=segment.start + at,
                context=tuple((start + at, length) for start, length in segment.context),
            )
            for layout, at in zip(layouts, starts, strict=True)
            for segment in layout.segments
        ),
        entry=torch.cat([layout.entry + number for layout, number in zip(layouts, numbers, strict=True)]),
        exit=torch.cat([layout.exit + number for layout, number in zip(layouts, numbers, strict=True)]),
        positions=torch.cat([layout.positions for layout in layouts]),
    )
