"""Every sequence attends to the keys of its own prompt, whatever prompts used the slots before."""

import random

import pytest
import torch

from burnish.model.prefix_cache import NARROWEST, CacheSlot, PrefixCache, PromptArrangement, PromptKeys


def prompt(length: int, generator: torch.Generator) -> PromptKeys:
    def tensor(size: int) -> torch.Tensor:
        return torch.randn(2, length, size, generator=generator)

    return PromptKeys({layer: (tensor(3), tensor(5)) for layer in (0, 4)}, length)


def visible(arrangement: PromptArrangement, sequence: int) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values that a sequence attends to, per layer, up to the end of its prompt."""
    place = int(arrangement.order[sequence])
    for part in arrangement.parts:
        if place < len(part.indices):
            assert int(part.indices[place]) == sequence
            slot = place // part.per_slot
            assert slot < part.slots
            size = part.block.lengths[slot]
            assert size <= part.longest
            return {layer: (k[slot, :, :size], v[slot, :, :size]) for layer, (k, v) in part.block.layers.items()}
        place -= len(part.indices)
    raise AssertionError("every sequence is in some part")


@pytest.mark.parametrize("seed", range(5))
def test_sequences_attend_to_their_prompts(seed):
    generator, draw, cache = (
        torch.Generator().manual_seed(seed),
        random.Random(seed),
        PrefixCache(torch.device("cpu")),
    )
    cached: list[tuple[CacheSlot, PromptKeys]] = []
    for _ in range(12):
        for slot, _ in [cached.pop(draw.randrange(len(cached))) for _ in range(min(len(cached), draw.randrange(3)))]:
            cache.free(slot)
        new = [prompt(draw.choice([1, 3, NARROWEST, NARROWEST + 1, 150, 256]), generator) for _ in range(3)]
        cached += zip(cache.put([keys.length for keys in new], new), new, strict=True)
        sequences = [place for place in range(len(cached)) for _ in range(draw.randrange(4))] or [0]
        draw.shuffle(sequences)
        arrangement = cache.arrange([cached[place][0] for place in sequences])
        for sequence, place in enumerate(sequences):
            keys_values = visible(arrangement, sequence)
            for layer, tensor in cached[place][1].layers.items():
                assert all(one.equal(two) for one, two in zip(keys_values[layer], tensor, strict=True))


def test_slots_are_used_again_and_at_most_half_empty():
    generator, cache = torch.Generator().manual_seed(0), PrefixCache(torch.device("cpu"))
    first = cache.put([200] * 3, [prompt(200, generator) for _ in range(3)])
    assert {slot.width for slot in first} == {256}
    cache.free(first[1])
    [again] = cache.put([129], [prompt(129, generator)])
    assert again == first[1]
    [narrow] = cache.put([1], [prompt(1, generator)])
    assert narrow.width == NARROWEST
