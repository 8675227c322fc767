"""Groups whose responses share more than their prompt, and responses of several texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from hypothesis import strategies as st

from burnish.prefix_tree import Fork
from burnish.types import Group, Response

FEW_TOKENS = 3
"""Size of a vocabulary in which sequences often begin alike."""


def grown(groups: Sequence[Group], seed: int = 0, *, forks: bool = False) -> list[Group]:
    """The groups with other tokens: each response begins as an earlier one, for a random number of tokens.

    Streams and masks stay as they are.

    Args:
        groups: any groups.
        seed: of the numbers.
        forks: whether responses consist of several texts, too.
    """
    generator = torch.Generator().manual_seed(seed)
    return [_grown(group, generator, forks) for group in groups]


def _grown(group: Group, generator: torch.Generator, forks: bool) -> Group:
    responses: list[Response] = []
    for response in group.responses:
        tokens = response.tokens.clone()
        if responses:
            other = responses[_below(len(responses), generator)].tokens
            size = _below(min(len(other), len(tokens)) + 1, generator)
            tokens[:size] = other[:size]
        responses.append(replace(response, tokens=tokens, forks=_forks(len(tokens), generator) if forks else ()))
    return replace(group, responses=tuple(responses)).with_tree(min_saved=1)


def _forks(size: int, generator: torch.Generator) -> tuple[Fork, ...]:
    """Random forks of a response of so many tokens, about one for every third token."""
    starts = [index for index in range(1, size) if _below(3, generator) == 0]
    forks: list[Fork] = []
    length, begin = 0, 0
    for start in starts:
        length = length + start - begin
        length = _below(length + 1, generator)
        forks.append(Fork(start, length))
        begin = start
    return tuple(forks)


def _below(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


@st.composite
def trees(draw: st.DrawFn, max_responses: int = 8, max_length: int = 12) -> Group:
    """A group of responses over few tokens, with the tree of their common beginnings; some may be equal."""
    tokens = st.integers(0, FEW_TOKENS - 1)
    prompt = draw(st.lists(tokens, min_size=1, max_size=5))
    rows = draw(st.lists(st.lists(tokens, min_size=1, max_size=max_length), min_size=1, max_size=max_responses))
    masks = [draw(st.lists(st.booleans(), min_size=len(row), max_size=len(row))) for row in rows]
    min_saved = draw(st.sampled_from([1, 1, 4, 9]))
    return Group(
        prompt=torch.tensor(prompt),
        responses=tuple(
            Response(tokens=torch.tensor(row), trainable=torch.tensor([*mask[:-1], True]))
            for row, mask in zip(rows, masks, strict=True)
        ),
    ).with_tree(min_saved)
