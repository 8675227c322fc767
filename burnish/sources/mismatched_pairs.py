"""Mismatched pairs: prompts of a step joined to other prompts' responses. KTO measures the policy's drift on them.

Stands between a source and annotation. Drawn from the groups of one step by (seed, step) alone, before anything is
packed or sharded, so neither microbatches nor ranks change them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from burnish.types import Group, Response


def mismatched(groups: Sequence[Group], *, seed: int, step: int, max_length: int | None = None) -> list[Group]:
    """Every response of the step once more, after the prompt of another group; to be measured, not trained.

    Args:
        groups: the trained groups of a step.
        seed: of the draw.
        step: which step of the stage it is.
        max_length: most tokens of prompt and response together; a longer response loses its end. None: no limit.

    Returns:
        As many groups as there are, with `trained` False: each has the prompt of one of them and the responses of the
        next in an order drawn at random, without rewards and without what was computed under the old prompt. Empty for
        a single group: it has no other.
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
    return Group(prompt=group.prompt, responses=responses, scored_only=True, metadata={"mismatched": True})


def _bare(response: Response, room: int | None) -> Response:
    """What does not depend on the prompt, cut to the room that there is."""
    weights = None if response.weights is None else response.weights[:room]
    return Response(tokens=response.tokens[:room], trainable=response.trainable[:room], weights=weights)
