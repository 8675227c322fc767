"""Sources and rows whose groups get streams: when their step is drawn, or from precomputed values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.model.snapshot import Snapshot
from burnish.roles.filler import Filler, StreamFiller
from burnish.roles.precomputed import Rows, Values
from burnish.sources.base import Source, WrappedSource
from burnish.sources.rows import Validates
from burnish.types import Group


@dataclass(frozen=True, eq=False, slots=True)
class SnapshotSync:
    """Updates of a reference towards the policy during a stage (TR-DPO, arXiv 2404.09656)."""

    snapshot: Snapshot
    """Weights of the reference."""
    every: int
    """Optimizer steps between updates."""
    share: float = 1.0
    """Share of the policy in the new reference; 1: the policy itself (hard update), below 1: a soft update."""

    def before_step(self, steps: int) -> None:
        """Updates the reference if it is due after this number of steps. Called before the next step's groups are
        drawn, so that the checkpoint of the step before has the old reference."""
        if steps and steps % self.every == 0:
            self.snapshot.follow(self.share)


class FilledSource(WrappedSource):
    """Source that fills streams of another source's groups when their step is drawn."""

    def __init__(self, source: Source, fillers: Sequence[Filler], sync: SnapshotSync | None = None) -> None:
        """
        Args:
            source: source of the groups.
            fillers: applied one after the other to the groups of each step.
            sync: updates of a reference; None: it is fixed.
        """
        super().__init__(source)
        self.fillers, self.sync = fillers, sync
        self.steps = 0
        """Number of steps whose groups were drawn."""

    def __iter__(self) -> Iterator[Sequence[Group]]:
        steps = iter(self.source)
        for _ in range(self.steps, self.num_steps):
            if self.sync is not None:
                self.sync.before_step(self.steps)
            groups = next(steps)
            self.steps += 1
            for fill in self.fillers:
                groups = fill(groups)
            yield groups

    def own(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_own(self, values: Mapping[str, Any]) -> None:
        self.steps = values["steps"]


class FilledRows(Sequence[Sequence[Group]]):
    """Rows with a precomputed stream."""

    def __init__(self, rows: Rows, values: Values, filler: StreamFiller) -> None:
        """
        Args:
            rows: the groups of each row, without the stream.
            values: precomputed scores of all rows.
            filler: computed them.
        """
        self.rows, self.values, self.filler = rows, values, filler

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Sequence[Group]:  # type: ignore[override]  # drawn singly
        groups = self.rows[row]
        return self.filler.put(groups, self.values.of(row, groups))

    def validate(self) -> None:
        """See `Source.validate`."""
        if isinstance(self.rows, Validates):
            self.rows.validate()
