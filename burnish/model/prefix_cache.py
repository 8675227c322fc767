"""Keys and values of prompts while their responses are written: those of similar length stand side by side.

Beside `decoding`, which looks at them. A shelf is one tensor per layer in which every prompt has a slot of the same
width, so that all rows look at all prompts of a shelf by one batched product. Widths are powers of two, so at most half
of a slot is empty. A prompt that is done leaves its slot to the next one.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

KeysValues = tuple[Tensor, Tensor]
"""Keys and values of one layer."""
NARROWEST = 64
"""Tokens of the narrowest slot."""


@dataclass(frozen=True, eq=False, slots=True)
class PromptKeys:
    """What the responses of one prompt share, as a forward left it."""

    layers: dict[int, KeysValues]
    """Layer → [key heads, P, D]."""
    length: int
    """P."""


@dataclass(frozen=True, slots=True)
class CacheSlot:
    """Where a prompt stands."""

    width: int
    """Of its shelf."""
    number: int


@dataclass(frozen=True, eq=False, slots=True)
class ArrangedPrompts:
    """The rows of one shelf, each beside its prompt."""

    shelf: CacheBlock
    take: Tensor
    """[S · n] rows by slot, n for each of the first S slots; where there are fewer, any row stands in."""
    slots: int
    """S, up to the last one that has rows."""
    rows: int
    """n, the most rows of a slot."""
    longest: int
    """Tokens of the longest of these prompts."""


@dataclass(frozen=True, eq=False, slots=True)
class PromptArrangement:
    """Which rows look at which prompts."""

    parts: tuple[ArrangedPrompts, ...]
    back: Tensor
    """[R] where each row is, counted over the rows of all parts."""


class CacheBlock:
    """Prompts whose slots have one width."""

    def __init__(self, width: int, device: torch.device) -> None:
        self.width, self._device = width, device
        self.layers: dict[int, KeysValues] = {}
        """Layer → [slots, key heads, width, D]."""
        self.lengths: list[int] = []
        """Tokens of the prompt in each slot."""
        self._free: list[int] = []

    def reserve(self, count: int, like: PromptKeys) -> None:
        """Makes room for so many prompts more, with the heads of this one."""
        if (missing := count - len(self._free)) <= 0:
            return
        for layer, kept in like.layers.items():
            more = [each.new_zeros((missing, each.shape[0], self.width, each.shape[2])) for each in kept]
            before = self.layers.get(layer)
            key, value = more if before is None else (torch.cat(pair) for pair in zip(before, more, strict=True))
            self.layers[layer] = (key, value)
        for number in range(len(self.lengths), len(self.lengths) + missing):
            heapq.heappush(self._free, number)
        self.lengths += [0] * missing

    def put(self, keys: PromptKeys) -> int:
        """Copies the keys of a prompt for which there is room; its slot's number, the lowest that is free."""
        number = heapq.heappop(self._free)
        self.lengths[number] = keys.length
        for layer, kept in keys.layers.items():
            for store, new in zip(self.layers[layer], kept, strict=True):
                store[number, :, : keys.length] = new
        return number

    def free(self, number: int) -> None:
        """The slot is the next prompt's. What stands in it still is finite, and nobody sees it."""
        self.lengths[number] = 0
        heapq.heappush(self._free, number)

    def arranged(self, rows: Sequence[tuple[int, int]]) -> tuple[ArrangedPrompts, list[int]]:
        """Rows beside their prompts, and where each of them is.

        Args:
            rows: (row, number of its slot).
        """
        of_slot: dict[int, list[int]] = {}
        for row, number in rows:
            of_slot.setdefault(number, []).append(row)
        slots, most = max(of_slot) + 1, max(map(len, of_slot.values()))
        take, where = [0] * (slots * most), dict[int, int]()
        for number, members in of_slot.items():
            for k, row in enumerate(members):
                take[number * most + k] = row
                where[row] = number * most + k
        longest = max(self.lengths[number] for number in of_slot)
        found = ArrangedPrompts(self, torch.tensor(take, device=self._device), slots, most, longest)
        return found, [where[row] for row, _ in rows]


@dataclass(eq=False, slots=True)
class PrefixCache:
    """All prompts whose responses are being written."""

    device: torch.device
    _shelves: dict[int, CacheBlock] = field(default_factory=dict)

    def put(self, prompts: Sequence[PromptKeys]) -> list[CacheSlot]:
        """Copies the keys of prompts."""
        widths = [max(NARROWEST, 1 << (prompt.length - 1).bit_length()) for prompt in prompts]
        for width in set(widths):
            shelf = self._shelves.setdefault(width, CacheBlock(width, self.device))
            shelf.reserve(widths.count(width), prompts[0])
        return [CacheSlot(width, self._shelves[width].put(each)) for width, each in zip(widths, prompts, strict=True)]

    def free(self, slot: CacheSlot) -> None:
        """The responses of this prompt are written."""
        self._shelves[slot.width].free(slot.number)

    def arrange(self, slots: Sequence[CacheSlot]) -> PromptArrangement:
        """Of the slot of each row's prompt."""
        parts: list[ArrangedPrompts] = []
        back, before = [0] * len(slots), 0
        for width in sorted({slot.width for slot in slots}):
            rows = [(row, slot.number) for row, slot in enumerate(slots) if slot.width == width]
            part, where = self._shelves[width].arranged(rows)
            for (row, _), place in zip(rows, where, strict=True):
                back[row] = before + place
            before += len(part.take)
            parts.append(part)
        return PromptArrangement(tuple(parts), torch.tensor(back, device=self.device))
