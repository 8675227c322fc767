"""Prefix cache: keys and values of prompts while their responses are generated, in blocks by length.

Read by `decoding`. A block is one tensor per layer in which every prompt has a slot of the same width, so that all
sequences attend to all prompts of a block by one batched product. Widths are powers of two, so at most half of a slot
is empty. When the responses of a prompt are complete, its slot is reused.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

KeysValues = tuple[Tensor, Tensor]
"""Keys and values of one layer."""
NARROWEST = 64
"""Width of the narrowest slot, tokens."""


@dataclass(frozen=True, eq=False, slots=True)
class PromptKeys:
    """Keys and values of one prompt, shared by its responses."""

    layers: dict[int, KeysValues]
    """Layer → [key heads, P, D]."""
    length: int
    """P."""


@dataclass(frozen=True, slots=True)
class CacheSlot:
    """Slot of a prompt."""

    width: int
    """Width of its block."""
    number: int


@dataclass(frozen=True, eq=False, slots=True)
class ArrangedPrompts:
    """Sequences of one block, grouped by the slot of their prompt."""

    block: CacheBlock
    indices: Tensor
    """[S · n] sequences by slot, n for each of the first S slots; a slot with fewer is filled with sequence 0."""
    slots: int
    """S, up to the last one that has sequences."""
    per_slot: int
    """n, the largest number of sequences of a slot."""
    longest: int
    """Tokens of the longest of these prompts."""


@dataclass(frozen=True, eq=False, slots=True)
class PromptArrangement:
    """Arrangement of all sequences by the blocks and slots of their prompts."""

    parts: tuple[ArrangedPrompts, ...]
    order: Tensor
    """[R] index of each sequence in the concatenated `indices` of all parts."""


class CacheBlock:
    """Prompts in slots of one width."""

    def __init__(self, width: int, device: torch.device) -> None:
        self.width, self._device = width, device
        self.layers: dict[int, KeysValues] = {}
        """Layer → [slots, key heads, width, D]."""
        self.lengths: list[int] = []
        """Tokens of the prompt in each slot."""
        self._free: list[int] = []

    def reserve(self, count: int, like: PromptKeys) -> None:
        """Makes room for `count` more prompts, with the shapes of the prompt `like`."""
        if (missing := count - len(self._free)) <= 0:
            return
        for layer, keys_values in like.layers.items():
            added = [old.new_zeros((missing, old.shape[0], self.width, old.shape[2])) for old in keys_values]
            before = self.layers.get(layer)
            key, value = added if before is None else (torch.cat(pair) for pair in zip(before, added, strict=True))
            self.layers[layer] = (key, value)
        for number in range(len(self.lengths), len(self.lengths) + missing):
            heapq.heappush(self._free, number)
        self.lengths += [0] * missing

    def put(self, keys: PromptKeys) -> int:
        """Copies the keys of a prompt into the lowest free slot, which must exist; returns the slot's number."""
        number = heapq.heappop(self._free)
        self.lengths[number] = keys.length
        for layer, keys_values in keys.layers.items():
            for store, new in zip(self.layers[layer], keys_values, strict=True):
                store[number, :, : keys.length] = new
        return number

    def free(self, number: int) -> None:
        """Frees the slot. Its old numbers are finite, and masked."""
        self.lengths[number] = 0
        heapq.heappush(self._free, number)

    def arranged(self, sequences: Sequence[tuple[int, int]]) -> tuple[ArrangedPrompts, list[int]]:
        """Groups sequences by slot, and gives the index of each in `ArrangedPrompts.indices`.

        Args:
            sequences: (sequence, number of its slot).
        """
        by_slot: dict[int, list[int]] = {}
        for sequence, number in sequences:
            by_slot.setdefault(number, []).append(sequence)
        slots, per_slot = max(by_slot) + 1, max(map(len, by_slot.values()))
        indices, index_of = [0] * (slots * per_slot), dict[int, int]()
        for number, members in by_slot.items():
            for k, sequence in enumerate(members):
                indices[number * per_slot + k] = sequence
                index_of[sequence] = number * per_slot + k
        longest = max(self.lengths[number] for number in by_slot)
        arranged = ArrangedPrompts(self, torch.tensor(indices, device=self._device), slots, per_slot, longest)
        return arranged, [index_of[sequence] for sequence, _ in sequences]


@dataclass(eq=False, slots=True)
class PrefixCache:
    """Prefix cache of all prompts whose responses are being generated."""

    device: torch.device
    _blocks: dict[int, CacheBlock] = field(default_factory=dict)

    def put(self, lengths: Sequence[int], prompts: Iterable[PromptKeys]) -> list[CacheSlot]:
        """Copies the keys of prompts into free slots, one prompt at a time.

        Args:
            lengths: tokens of each prompt.
            prompts: their keys and values.
        """
        widths = [max(NARROWEST, 1 << (length - 1).bit_length()) for length in lengths]
        reserved: set[int] = set()
        slots = []
        for width, prompt in zip(widths, prompts, strict=True):
            block = self._blocks.setdefault(width, CacheBlock(width, self.device))
            if width not in reserved:
                block.reserve(widths.count(width), prompt)
                reserved.add(width)
            slots.append(CacheSlot(width, block.put(prompt)))
        return slots

    def free(self, slot: CacheSlot) -> None:
        """Frees the slot of a prompt whose responses are complete."""
        self._blocks[slot.width].free(slot.number)

    def arrange(self, slots: Sequence[CacheSlot]) -> PromptArrangement:
        """Arranges sequences, given the slot of each one's prompt."""
        parts: list[ArrangedPrompts] = []
        order, start = [0] * len(slots), 0
        for width in sorted({slot.width for slot in slots}):
            sequences = [(sequence, slot.number) for sequence, slot in enumerate(slots) if slot.width == width]
            part, indices = self._blocks[width].arranged(sequences)
            for (sequence, _), index in zip(sequences, indices, strict=True):
                order[sequence] = start + index
            start += len(part.indices)
            parts.append(part)
        return PromptArrangement(tuple(parts), torch.tensor(order, device=self.device))
