"""Scorers: models that compute scores of responses without gradient.

A scorer is a reference model, a reward model, or the policy itself. It uses the same packing and scoring as training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from burnish.model.policy import Model
from burnish.model.snapshot import Snapshot
from burnish.parallel.world import ONE_PROCESS, World
from burnish.types import Group, Microbatch, Score

ResponseScores = list[list[Tensor]]
"""Per group and response: [number of its scored tokens] or [number of its scored tokens, K], on the CPU. Of
`Score.STATE_VALUE` one number more: the value of the state after the last token."""


class Scorer(Protocol):
    """Computes a score of every scored token of responses, without gradient and without dropout."""

    def score(self, groups: Sequence[Group], kind: Score, budget: int, world: World = ONE_PROCESS) -> ResponseScores:
        """Scores of the trained tokens of every response.

        Args:
            groups: packed together.
            kind: the score; a value of K > 1 outputs has the shape [scored, K].
            budget: maximum number of tokens of a microbatch; each is one forward.
            world: processes that share the microbatches; all give all groups and get all scores.
        """


@dataclass(frozen=True, eq=False, slots=True)
class LiveScorer:
    """Scorer with the present weights of a model: another model, or the policy."""

    model: Model

    def score(self, groups: Sequence[Group], kind: Score, budget: int, world: World = ONE_PROCESS) -> ResponseScores:
        """See `Scorer.score`. The model's mode is restored."""
        computed = of_responses(self.model, groups, budget, partial(_scores, self.model, kind), world)
        return [[torch.cat(list(parts.values())) for parts in of_group] for of_group in computed]


def _scores(model: Model, kind: Score, microbatch: Microbatch) -> Computed:
    scored = model.score(microbatch, [kind])
    ends = {} if scored.bootstrap_value is None else {"end": scored.bootstrap_value}
    return Computed({"tokens": scored.of(kind)}, ends)


@dataclass(frozen=True, eq=False, slots=True)
class Computed:
    """What is computed of a microbatch."""

    tokens: Mapping[str, Tensor]
    """Name → [S, …], of the scored tokens."""
    responses: Mapping[str, Tensor] = field(default_factory=dict)
    """Name → [num_sequences]"""


@torch.no_grad()
def of_responses(
    model: Model,
    groups: Sequence[Group],
    budget: int,
    compute: Callable[[Microbatch], Computed],
    world: World = ONE_PROCESS,
) -> list[list[dict[str, Tensor]]]:
    """Computes something of packed groups, without gradient and without dropout, and gives each response its own part.

    Args:
        model: packs the groups; its mode is restored.
        groups: packed together.
        budget: maximum number of tokens of a microbatch.
        compute: a microbatch on the model's device → tensors by name.
        world: processes that share the microbatches; all give all groups and get what is computed of all.

    Returns:
        Per group and response: name → [scored tokens of the response, …] or [1], on the CPU.
    """
    found: dict[tuple[int, int], dict[str, Tensor]] = {}
    own, others = world.share_evenly(model.pack(groups, budget, ranks=world.shares))
    with _in_eval_mode(model.model):
        for microbatch in own:
            computed = compute(microbatch.to(model.device))
            sizes = microbatch.sequence_tokens.tolist()
            trained = [positions >= 0 for positions in microbatch.response_positions.split(sizes)]
            parts: list[dict[str, Tensor]] = [{} for _ in sizes]
            for name, values in computed.tokens.items():
                for part, of_response, is_own in zip(parts, values.cpu().split(sizes), trained, strict=True):
                    part[name] = of_response[is_own]
            for name, values in computed.responses.items():
                for part, value in zip(parts, values.cpu().split(1), strict=True):
                    part[name] = value
            owners = zip(microbatch.sequence_group.tolist(), microbatch.sequence_index.tolist(), strict=True)
            found |= dict(zip(owners, parts, strict=True))
        for microbatch in others:
            compute(microbatch.to(model.device))
    by_group: list[dict[int, dict[str, Tensor]]] = [{} for _ in groups]
    for computed_here in world.gather_shares(found):
        for (group, index), part in computed_here.items():
            by_group[group][index] = part
    return [[by_index[index] for index in range(len(by_index))] for by_index in by_group]


@dataclass(frozen=True, eq=False, slots=True)
class SnapshotScorer:
    """Scorer with earlier weights of the policy in training."""

    snapshot: Snapshot

    def score(self, groups: Sequence[Group], kind: Score, budget: int, world: World = ONE_PROCESS) -> ResponseScores:
        """See `Scorer.score`."""
        with self.snapshot.in_place() as policy:
            return LiveScorer(policy).score(groups, kind, budget, world)


@contextmanager
def _in_eval_mode(module: nn.Module) -> Iterator[None]:
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
