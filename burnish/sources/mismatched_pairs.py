"""Mismatched pairs: prompts of a step joined to other prompts' responses. KTO estimates the KL divergence on them.

Stands between a source and the filling of streams. They are drawn from the groups of one step by (seed, step) alone,
before packing and sharding, so neither microbatches nor ranks change them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from burnish.types import Group, Response


def mismatched(groups: Sequence[Group], *, seed: int, step: int, max_length: int | None = None) -> list[Group]:
    """Every response of the step again, after the prompt of another group; scored, not trained.

    Args:
        groups: the trained groups of a step.
        seed: seed of the draw.
        step: which step of the stage it is.
        max_length: maximum number of tokens of prompt and response together; a longer response is truncated. None: no
            limit.

    Returns:
        As many groups as there are, with `scored_only` True: each has the prompt of one of them and the responses of
        the next in a random order, without rewards and without streams computed under the old prompt. Empty for a
        single group.
    """
    if len(groups) < 2:
        return []
    order = np.random.default_rng([seed, step]).permutation(len(groups))
    others = np.empty_like(order)
    others[order] = np.roll(order, -1)
    return [_joined(group, groups[int(other)], max_length) for group, other in zip(groups, others, strict=True)]


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
    """The streams that do not depend on the prompt, truncated to the room."""
    weights = None if response.weights is None else response.weights[:room]
    return Response(tokens=response.tokens[:room], trainable=response.trainable[:room], weights=weights)
