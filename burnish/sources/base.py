"""Contract of sources: iterators over the groups of each step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from burnish.sources.samples import RolloutSample
from burnish.types import Group


class Source(Protocol):
    """Iterator over steps, each a sequence of groups, with a state for checkpoints."""

    @property
    def num_steps(self) -> int:
        """Number of steps of the whole stage, known before it begins."""

    @property
    def epoch(self) -> float:
        """Number of passes over the rows, or prompts, so far; 1.5: the second pass is half done."""

    def __iter__(self) -> Iterator[Sequence[Group]]:
        """The groups of each remaining step, in order."""

    def settle(self) -> None:
        """Validates all data that was not read yet. Called before the first checkpoint, so that invalid data are
        reported while the recipe can still be changed.

        Raises:
            DataError: the data are invalid.
        """

    def state(self) -> dict[str, int]:
        """Position after the groups that were drawn, for a checkpoint."""

    def restore(self, state: dict[str, int]) -> None:
        """Continues from a `state`: the same groups follow."""


@runtime_checkable
class ReportsMetrics(Protocol):
    """A source with metrics and samples of the step that was drawn last."""

    @property
    def figures(self) -> Mapping[str, float]:
        """Metric → value; metrics.jsonl prefixes the name with ``rollout/``. Empty: none."""

    @property
    def samples(self) -> Sequence[RolloutSample]:
        """Responses for samples.jsonl; empty: none."""
