"""Annotate: no-grad forwards through the same packing and scoring, which fill a stream of the responses.

Stands between a source and credit. Here it is the reference: the log-probabilities that a frozen policy gives to what
is learned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

from burnish.model.policy import Model
from burnish.model.snapshot import Snapshot
from burnish.sources.base import Source
from burnish.types import Group, Response, Score

Logprobs = list[list[Tensor]]
"""For each group, for each response: [scored tokens of it], nats, on the CPU."""
Stream = Literal["reference_logprobs", "old_logprobs"]
"""Which stream of a response they fill."""


class Reference(Protocol):
    """Who gives the reference's log-probabilities."""

    def logprobs(self, groups: Sequence[Group], budget: int) -> Logprobs:
        """Of the trained tokens of every response."""


@dataclass(frozen=True, eq=False, slots=True)
class LiveScorer:
    """A policy as it is: another model, or the one that is about to be trained."""

    policy: Model

    def logprobs(self, groups: Sequence[Group], budget: int) -> Logprobs:
        return logprobs(self.policy, groups, budget)


@dataclass(frozen=True, eq=False, slots=True)
class FrozenScorer:
    """The policy in training, as it was earlier."""

    earlier: Snapshot

    def logprobs(self, groups: Sequence[Group], budget: int) -> Logprobs:
        with self.earlier.in_place() as policy:
            return logprobs(policy, groups, budget)


@torch.no_grad()
def logprobs(policy: Model, groups: Sequence[Group], budget: int) -> Logprobs:
    """What the policy gives to the trained tokens of every response, with dropout off. The model's mode is kept.

    Args:
        policy: scores.
        groups: packed together, under the budget.
        budget: most tokens of a microbatch.
    """
    was_training = policy.model.training
    policy.model.eval()
    found: list[dict[int, Tensor]] = [{} for _ in groups]
    for microbatch in policy.pack(groups, budget):
        scores = policy.score(microbatch.to(policy.device), [Score.LOGPROB]).of(Score.LOGPROB).cpu()
        sizes = microbatch.sequence_tokens.tolist()
        owners = zip(microbatch.sequence_group.tolist(), microbatch.sequence_index.tolist(), strict=True)
        parts = zip(scores.split(sizes), microbatch.response_positions.split(sizes), strict=True)
        for (group, index), (values, places) in zip(owners, parts, strict=True):
            found[group][index] = values[places >= 0]
    policy.model.train(was_training)
    return [[by_index[index] for index in range(len(by_index))] for by_index in found]


def annotated(groups: Sequence[Group], values: Logprobs, stream: Stream = "reference_logprobs") -> list[Group]:
    """The groups with log-probabilities, the reference's unless told otherwise; 0 at tokens that are not trained."""
    return [
        replace(
            group,
            responses=tuple(
                _filled(response, stream, _spread(each, response.trainable))
                for response, each in zip(group.responses, theirs, strict=True)
            ),
        )
        for group, theirs in zip(groups, values, strict=True)
    ]


def _filled(response: Response, stream: Stream, values: Tensor) -> Response:
    if stream == "old_logprobs":
        return replace(response, old_logprobs=values)
    return replace(response, reference_logprobs=values)


def _spread(values: Tensor, trainable: Tensor) -> Tensor:
    stream = torch.zeros(len(trainable), dtype=values.dtype)
    stream[trainable] = values
    return stream


@dataclass(frozen=True, slots=True)
class ReferenceSync:
    """A reference that follows the policy (TR-DPO, arXiv 2404.09656)."""

    every: int
    """Optimiser steps between its moves."""
    share: float = 1.0
    """Of the policy in the new reference; 1: the policy itself (the paper's hard update), below: a soft one."""


class AnnotatedSource:
    """The groups of another source, those without a reference annotated when their step is drawn."""

    def __init__(
        self, source: Source, reference: FrozenScorer | LiveScorer, budget: int, moves: ReferenceSync | None = None
    ) -> None:
        """
        Args:
            source: of groups, of which some may have a reference.
            reference: who gives it.
            budget: most tokens of a microbatch.
            moves: how it follows the policy; None: it stays as it is.
        """
        assert moves is None or isinstance(reference, FrozenScorer), "only the policy's own earlier weights follow it"
        self.source, self.reference, self.budget, self.moves = source, reference, budget, moves
        self.steps = 0
        """Whose groups were given out."""

    @property
    def num_steps(self) -> int:
        return self.source.num_steps

    @property
    def epoch(self) -> float:
        return self.source.epoch

    def __iter__(self) -> Iterator[Sequence[Group]]:
        groups = iter(self.source)
        for _ in range(self.steps, self.num_steps):
            self._move()
            step = next(groups)
            self.steps += 1
            bare = [group for group in step if group.responses[0].reference_logprobs is None]
            filled = iter(annotated(bare, self.reference.logprobs(bare, self.budget)))
            yield [next(filled) if group.responses[0].reference_logprobs is None else group for group in step]

    def _move(self) -> None:
        """Before the groups of a step are drawn: so a checkpoint of the step before has the reference unmoved."""
        if self.moves is not None and self.steps and self.steps % self.moves.every == 0:
            assert isinstance(self.reference, FrozenScorer), "see __init__"
            self.reference.earlier.follow(self.moves.share)

    def settle(self) -> None:
        self.source.settle()

    def state(self) -> dict[str, int]:
        return {**self.source.state(), "steps": self.steps}

    def restore(self, state: dict[str, int]) -> None:
        self.steps = state["steps"]
        self.source.restore(state)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint has of the source, see `burnish.sources.base.HoldsTensors`."""
        if self.moves is None or not isinstance(self.reference, FrozenScorer):
            return {}
        return dict(self.reference.earlier.tensors)


class SyncedGroups(Sequence[Group]):
    """Held-out groups under a reference that moves: annotated anew after each of its moves."""

    def __init__(self, groups: Sequence[Group], reference: FrozenScorer, budget: int) -> None:
        self._groups, self._reference, self._budget = groups, reference, budget
        self._version = -1
        self._annotated: list[Group] = []

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, index: int) -> Group:  # type: ignore[override]  # taken singly
        if self._version != self._reference.earlier.version:
            self._annotated = [
                group for block in annotate_blocks(self._groups, self._reference, self._budget) for group in block
            ]
            self._version = self._reference.earlier.version
        return self._annotated[index]


BLOCK = 256
"""Rows whose reference is computed together: which they are depends on the rows alone, so the bits do too."""


def annotate_blocks(groups: Sequence[Group], reference: Reference, budget: int) -> Iterator[list[Group]]:
    """All groups, annotated a block at a time."""
    for start in range(0, len(groups), BLOCK):
        block = [groups[i] for i in range(start, min(start + BLOCK, len(groups)))]
        yield annotated(block, reference.logprobs(block, budget))
