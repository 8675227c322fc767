"""Every row finds the keys of its own prompt, whoever came, left, or took a slot before."""

import random

import pytest
import torch

from burnish.model.prefix_cache import NARROWEST, CacheSlot, PrefixCache, PromptArrangement, PromptKeys


def prompt(length: int, generator: torch.Generator) -> PromptKeys:
    def kept(size: int) -> torch.Tensor:
        return torch.randn(2, length, size, generator=generator)

    return PromptKeys({layer: (kept(3), kept(5)) for layer in (0, 4)}, length)


def found(arrangement: PromptArrangement, row: int) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """What a row looks at, per layer, up to the end of its prompt."""
    place = int(arrangement.order[row])
    for part in arrangement.parts:
        if place < len(part.indices):
            assert int(part.indices[place]) == row
            slot = place // part.rows
            assert slot < part.slots
            size = part.shelf.lengths[slot]
            assert size <= part.longest
            return {layer: (k[slot, :, :size], v[slot, :, :size]) for layer, (k, v) in part.shelf.layers.items()}
        place -= len(part.indices)
    raise AssertionError("the row is in some part")


@pytest.mark.parametrize("seed", range(5))
def test_rows_find_their_prompts(seed):
    generator, draw, shelves = (
        torch.Generator().manual_seed(seed),
        random.Random(seed),
        PrefixCache(torch.device("cpu")),
    )
    there: list[tuple[CacheSlot, PromptKeys]] = []
    for _ in range(12):
        for slot, _ in [there.pop(draw.randrange(len(there))) for _ in range(min(len(there), draw.randrange(3)))]:
            shelves.free(slot)
        new = [prompt(draw.choice([1, 3, NARROWEST, NARROWEST + 1, 150, 256]), generator) for _ in range(3)]
        there += zip(shelves.put(new), new, strict=True)
        rows = [place for place in range(len(there)) for _ in range(draw.randrange(4))] or [0]
        draw.shuffle(rows)
        arrangement = shelves.arrange([there[place][0] for place in rows])
        for row, place in enumerate(rows):
            mine = found(arrangement, row)
            for layer, kept in there[place][1].layers.items():
                assert all(one.equal(two) for one, two in zip(mine[layer], kept, strict=True))


def test_slots_are_used_again_and_at_most_half_empty():
    generator, shelves = torch.Generator().manual_seed(0), PrefixCache(torch.device("cpu"))
    first = shelves.put([prompt(200, generator) for _ in range(3)])
    assert {slot.width for slot in first} == {256}
    shelves.free(first[1])
    [again] = shelves.put([prompt(129, generator)])
    assert again == first[1]
    [narrow] = shelves.put([prompt(1, generator)])
    assert narrow.width == NARROWEST
