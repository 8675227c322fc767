"""Groups of rendered responses that a reward model scores: those to one prompt share the prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from burnish.data.shared_prompt import common_prefix
from burnish.data.tokenize import Sample
from burnish.types import Group, Response


def shared_groups(samples: Sequence[Sample], scored: Sequence[Sequence[int]]) -> Iterator[Group]:
    """One group that shares the longest common prefix without a scored token, or, if there is none, a group for each.

    Args:
        samples: the responses to one prompt, each with its prompt.
        scored: indices of the scored tokens of each, in order, at least one, the first above 0; tokens after the last
            one are left out.
    """
    if not samples:
        return
    pairs = list(zip(samples, scored, strict=True))
    prefix = min(min(common_prefix(samples[0], sample), at[0]) for sample, at in pairs)
    if prefix:
        responses = tuple(_scored_at(sample, prefix, at) for sample, at in pairs)
        yield Group(prompt=torch.tensor(samples[0].tokens[:prefix], dtype=torch.int64), responses=responses).with_tree()
        return
    assert len(samples) > 1, "a response has a token before its first scored one"
    for sample, at in pairs:
        yield from shared_groups([sample], [at])


def _scored_at(sample: Sample, start: int, scored: Sequence[int]) -> Response:
    tokens = torch.tensor(sample.tokens[start : scored[-1] + 1], dtype=torch.int64)
    trainable = torch.zeros(len(tokens), dtype=torch.bool)
    trainable[torch.tensor(scored) - start] = True
    return Response(tokens=tokens, trainable=trainable)
