"""The contract of every source: where the groups of each step come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from burnish.sources.samples import RolloutSample
from burnish.types import Group


class Source(Protocol):
    """An iterator over steps. `for groups in source` is the whole program."""

    @property
    def num_steps(self) -> int:
        """Steps of the whole stage, known before it begins."""

    @property
    def epoch(self) -> float:
        """Passes over the rows, or prompts, that were drawn so far; 1.5: the second one is half done."""

    def __iter__(self) -> Iterator[Sequence[Group]]:
        """The groups of each remaining step, in order."""

    def settle(self) -> None:
        """Has everything looked at that is still unseen. Called before the first checkpoint: what is wrong with the
        data shows while there is nothing yet that another recipe could not go on with.

        Raises:
            DataError: something is wrong with the data.
        """

    def state(self) -> dict[str, int]:
        """Where it stands: after the groups that were given out."""

    def restore(self, state: dict[str, int]) -> None:
        """Continues where `state` was taken: the same groups follow."""


@runtime_checkable
class ReportsMetrics(Protocol):
    """A source that has something to tell of the step that it gave out last."""

    @property
    def figures(self) -> Mapping[str, float]:
        """Name → number; metrics.jsonl puts ``rollout/`` before it. Empty: nothing."""

    @property
    def samples(self) -> Sequence[RolloutSample]:
        """Responses for samples.jsonl; empty: none."""


@runtime_checkable
class HoldsTensors(Protocol):
    """A source that changes weights of its own while it gives out groups, such as a reference that moves."""

    def tensors(self) -> Mapping[str, Tensor]:
        """By name; a checkpoint keeps them, and restoring one writes into them."""
