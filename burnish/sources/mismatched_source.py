"""Source that adds mismatched pairs, which are scored and not trained, to each step of another source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from burnish.sources.base import Source
from burnish.sources.mismatched_pairs import mismatched
from burnish.types import Group


class MismatchedSource:
    """See the module and `mismatched_pairs.mismatched`."""

    def __init__(self, source: Source, *, seed: int, max_length: int | None) -> None:
        """
        Args:
            source: source of the trained groups.
            seed: seed of the draw.
            max_length: maximum number of tokens of a mismatched prompt and response together; None: no limit.
        """
        self.source, self.seed, self.max_length = source, seed, max_length
        self.steps = 0
        """Number of steps whose groups were drawn."""

    @property
    def num_steps(self) -> int:
        return self.source.num_steps

    @property
    def epoch(self) -> float:
        return self.source.epoch

    def __iter__(self) -> Iterator[Sequence[Group]]:
        for groups in self.source:
            self.steps += 1
            yield [*groups, *mismatched(groups, seed=self.seed, step=self.steps, max_length=self.max_length)]

    def settle(self) -> None:
        self.source.settle()

    def state(self) -> dict[str, int]:
        return {**self.source.state(), "steps": self.steps}

    def restore(self, state: dict[str, int]) -> None:
        self.steps = state["steps"]
        self.source.restore(state)
