"""Mismatched pairs: prompts of a step joined to other prompts' responses. KTO estimates the KL divergence on them.

Stands between a source and the filling of streams. They are drawn from the groups of one step by (seed, step) alone,
before packing and sharding, so neither microbatches nor ranks change them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import numpy as np

from burnish.types import Group, Response


def mismatched(groups: Sequence[Group], *, seed: int, step: int, max_length: int | None = None) -> list[Group]:
    """Every response of the step again, after another prompt; scored, not trained.

    Args:
        groups: the trained groups of a step.
        seed: seed of the draw.
        step: which step of the stage it is.
        max_length: maximum number of tokens of prompt and response together; a longer response is truncated. None: no
            limit.

    Returns:
        As many groups as there are, with `scored_only` True: each has the prompt of one of them and the responses of
        another with another prompt, the next in a random order if that has one. They have no rewards and no streams
        computed under the old prompt. Fewer if more than half of the groups have one prompt: each response is used at
        most once, so some of that prompt find no other. Empty if all have one prompt.
    """
    order = np.random.default_rng([seed, step]).permutation(len(groups)).tolist()
    others = _with_other_prompts([_identity(group) for group in groups], order)
    return [_joined(groups[at], groups[other], max_length) for at, other in others.items()]


def _identity(group: Group) -> bytes:
    """Tokens of a prompt, and its images."""
    return group.prompt.numpy().tobytes() + "".join(medium.digest for medium in group.media).encode()


def _with_other_prompts(prompts: Sequence[bytes], order: Sequence[int]) -> dict[int, int]:
    """Group → a group with another prompt, each used once.

    A group whose next one has its own prompt exchanges with the first group for which both exchanges fit. There is one
    unless more than half of the groups have that prompt c: of n groups, at most n/2 have c and at most n/2 have been
    given c, the group itself both.
    """
    given = dict(zip(order, [*order[1:], *order[:1]], strict=True))
    for at in order:
        if prompts[at] == prompts[given[at]]:
            fits = (
                other
                for other in order
                if prompts[at] != prompts[given[other]] and prompts[other] != prompts[given[at]]
            )
            if (other := next(fits, None)) is not None:
                given[at], given[other] = given[other], given[at]
    return {at: given[at] for at in sorted(given) if prompts[at] != prompts[given[at]]}


def _joined(group: Group, other: Group, max_length: int | None) -> Group:
    room = None if max_length is None else max(1, max_length - len(group.prompt))
    responses = tuple(_bare(response, room) for response in other.responses)
    return Group(
        prompt=group.prompt,
        responses=responses,
        scored_only=True,
        media=group.media,
        metadata={"mismatched": True},
    )


def _bare(response: Response, room: int | None) -> Response:
    """The streams that do not depend on the prompt, truncated to the room. Of several texts, the first that fit."""
    end = room
    if response.forks:
        texts = zip(response.sequences, response.texts, strict=True)
        fitting = takewhile(lambda text: room is None or len(text[0]) <= room, texts)
        ends = [stop for _, (_, stop, _) in fitting]
        end = ends[-1] if ends else room
    weights = None if response.weights is None else response.weights[:end]
    forks = tuple(fork for fork in response.forks if end is None or fork.start < end)
    return Response(tokens=response.tokens[:end], trainable=response.trainable[:end], weights=weights, forks=forks)
