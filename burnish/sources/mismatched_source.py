"""Source that adds mismatched pairs, which are scored and not trained, to each step of another source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from burnish.sources.base import Source, WrappedSource
from burnish.sources.mismatched_pairs import mismatched
from burnish.types import Group


class MismatchedSource(WrappedSource):
    """See the module and `mismatched_pairs.mismatched`."""

    def __init__(self, source: Source, *, seed: int, max_length: int | None) -> None:
        """
        Args:
            source: source of the trained groups.
            seed: seed of the draw.
            max_length: maximum number of tokens of a mismatched prompt and response together; None: no limit.
        """
        super().__init__(source)
        self.seed, self.max_length = seed, max_length
        self.steps = 0
        """Number of steps whose groups were drawn."""

    def __iter__(self) -> Iterator[Sequence[Group]]:
        for groups in self.source:
            self.steps += 1
            yield [*groups, *mismatched(groups, seed=self.seed, step=self.steps, max_length=self.max_length)]

    def own(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_own(self, values: Mapping[str, Any]) -> None:
        self.steps = values["steps"]
