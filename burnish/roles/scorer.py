"""Scorers: models that compute scores of responses without gradient.

A scorer is a reference model, a reward model, or the policy itself. It uses the same packing and scoring as training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from burnish.model.policy import Model
from burnish.model.snapshot import Snapshot
from burnish.types import Group, Score

ResponseScores = list[list[Tensor]]
"""Per group and response: [number of its scored tokens] or [number of its scored tokens, K], on the CPU. Of
`Score.STATE_VALUE` one number more: the value of the state after the last token."""


class Scorer(Protocol):
    """Computes a score of every scored token of responses, without gradient and without dropout."""

    def score(self, groups: Sequence[Group], kind: Score, budget: int) -> ResponseScores:
        """Scores of the trained tokens of every response.

        Args:
            groups: packed together.
            kind: the score; a value of K > 1 outputs has the shape [scored, K].
            budget: maximum number of tokens of a microbatch; each is one forward.
        """


@dataclass(frozen=True, eq=False, slots=True)
class LiveScorer:
    """Scorer with the present weights of a model: another model, or the policy."""

    model: Model

    @torch.no_grad()
    def score(self, groups: Sequence[Group], kind: Score, budget: int) -> ResponseScores:
        """See `Scorer.score`. The model's mode is restored."""
        by_group: list[dict[int, Tensor]] = [{} for _ in groups]
        with _in_eval_mode(self.model.model):
            for microbatch in self.model.pack(groups, budget):
                scored = self.model.score(microbatch.to(self.model.device), [kind])
                scores = scored.of(kind).cpu()
                sizes = microbatch.sequence_tokens.tolist()
                owners = zip(microbatch.sequence_group.tolist(), microbatch.sequence_index.tolist(), strict=True)
                parts = zip(scores.split(sizes), microbatch.response_positions.split(sizes), strict=True)
                ends = [] if scored.bootstrap_value is None else scored.bootstrap_value.cpu().split(1)
                for sequence, ((group, index), (values, positions)) in enumerate(zip(owners, parts, strict=True)):
                    by_group[group][index] = torch.cat([values[positions >= 0], *ends[sequence : sequence + 1]])
        return [[by_index[index] for index in range(len(by_index))] for by_index in by_group]


@dataclass(frozen=True, eq=False, slots=True)
class SnapshotScorer:
    """Scorer with earlier weights of the policy in training."""

    snapshot: Snapshot

    def score(self, groups: Sequence[Group], kind: Score, budget: int) -> ResponseScores:
        """See `Scorer.score`."""
        with self.snapshot.in_place() as policy:
            return LiveScorer(policy).score(groups, kind, budget)


@contextmanager
def _in_eval_mode(module: nn.Module) -> Iterator[None]:
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
