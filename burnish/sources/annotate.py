"""Filling streams of responses by forward passes without gradient: the reference's and the trainer's log-probabilities.

Stands between a source and credit, and uses the same packing and scoring as training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from burnish.model.policy import Model
from burnish.model.snapshot import Snapshot
from burnish.sources.base import Source
from burnish.streams import spread, with_stream
from burnish.types import Group, Score

Logprobs = list[list[Tensor]]
"""Per group and response: [number of its scored tokens], nats, on the CPU."""


class Reference(Protocol):
    """Scorer that computes the reference's log-probabilities."""

    def logprobs(self, groups: Sequence[Group], budget: int) -> Logprobs:
        """Log-probabilities of the trained tokens of every response."""


@dataclass(frozen=True, eq=False, slots=True)
class LiveScorer:
    """Scorer with the present weights of a model: another model, or the policy."""

    policy: Model

    def logprobs(self, groups: Sequence[Group], budget: int) -> Logprobs:
        return logprobs(self.policy, groups, budget)


@dataclass(frozen=True, eq=False, slots=True)
class FrozenScorer:
    """Scorer with earlier weights of the policy in training."""

    earlier: Snapshot

    def logprobs(self, groups: Sequence[Group], budget: int) -> Logprobs:
        with self.earlier.in_place() as policy:
            return logprobs(policy, groups, budget)


@torch.no_grad()
def logprobs(policy: Model, groups: Sequence[Group], budget: int) -> Logprobs:
    """Log-probabilities of the trained tokens of every response, without dropout. The model's mode is restored.

    Args:
        policy: the model.
        groups: packed together.
        budget: maximum number of tokens of a microbatch.
    """
    was_training = policy.model.training
    policy.model.eval()
    by_group: list[dict[int, Tensor]] = [{} for _ in groups]
    for microbatch in policy.pack(groups, budget):
        scores = policy.score(microbatch.to(policy.device), [Score.LOGPROB]).of(Score.LOGPROB).cpu()
        sizes = microbatch.sequence_tokens.tolist()
        owners = zip(microbatch.sequence_group.tolist(), microbatch.sequence_index.tolist(), strict=True)
        parts = zip(scores.split(sizes), microbatch.response_positions.split(sizes), strict=True)
        for (group, index), (values, positions) in zip(owners, parts, strict=True):
            by_group[group][index] = values[positions >= 0]
    policy.model.train(was_training)
    return [[by_index[index] for index in range(len(by_index))] for by_index in by_group]


def annotated(groups: Sequence[Group], values: Logprobs, stream: str = "reference_logprobs") -> list[Group]:
    """The groups with a stream filled by these log-probabilities; 0 at tokens that are not trained."""
    return [
        replace(
            group,
            responses=tuple(
                with_stream(response, stream, spread(logprobs_of_response, response.trainable))
                for response, logprobs_of_response in zip(group.responses, logprobs_of_group, strict=True)
            ),
        )
        for group, logprobs_of_group in zip(groups, values, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class ReferenceSync:
    """Updates of the reference towards the policy (TR-DPO, arXiv 2404.09656)."""

    every: int
    """Optimizer steps between updates."""
    share: float = 1.0
    """Share of the policy in the new reference; 1: the policy itself (hard update), below 1: a soft update."""


class AnnotatedSource:
    """Source that fills in reference log-probabilities of another source's groups when their step is drawn."""

    def __init__(
        self, source: Source, reference: FrozenScorer | LiveScorer, budget: int, moves: ReferenceSync | None = None
    ) -> None:
        """
        Args:
            source: source of the groups; groups that have reference log-probabilities keep them.
            reference: scorer of the reference.
            budget: maximum number of tokens of a microbatch.
            moves: updates of the reference; None: it is fixed.
        """
        assert moves is None or isinstance(reference, FrozenScorer), "only earlier weights of the policy are updated"
        self.source, self.reference, self.budget, self.moves = source, reference, budget, moves
        self.steps = 0
        """Number of steps whose groups were drawn."""

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
        """Updates the reference if it is due. This is done before a step's groups are drawn, so that the checkpoint of
        the step before has the old reference."""
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
        """Weights of a reference that is updated, see `burnish.sources.base.HoldsTensors`."""
        if self.moves is None or not isinstance(self.reference, FrozenScorer):
            return {}
        return dict(self.reference.earlier.tensors)


class SyncedGroups(Sequence[Group]):
    """Held-out groups whose reference log-probabilities are recomputed after each update of the reference."""

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
"""Number of rows whose reference is computed together. Blocks depend on the rows alone, and so do the bits."""


def annotate_blocks(groups: Sequence[Group], reference: Reference, budget: int) -> Iterator[list[Group]]:
    """All groups with reference log-probabilities, a block at a time."""
    for start in range(0, len(groups), BLOCK):
        block = [groups[i] for i in range(start, min(start + BLOCK, len(groups)))]
        yield annotated(block, reference.logprobs(block, budget))
