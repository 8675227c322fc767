"""Auxiliary losses: losses of rows of their own, whose gradients are added to those of a learner's groups.

Example: PPO-ptx, the likelihood of given text beside the policy gradient (Ouyang et al. 2022, arXiv 2203.02155,
equation 2), which keeps what the policy could do before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from burnish.losses.base import Loss
from burnish.sources.rows import RowSource
from burnish.train.step import AuxiliaryGroups
from burnish.types import Group


@dataclass(eq=False)
class Auxiliary:
    """Auxiliary loss of a learner. The rows of a step are a function of seed and step alone."""

    name: str
    """Name of the term in metrics."""
    rows: Sequence[Sequence[Group]]
    """The groups of each row, at least one row."""
    loss: Loss
    rows_per_step: int
    seed: int
    fill: Callable[[Sequence[Group]], Sequence[Group]] | None = None
    """Fills streams of a step's groups; None: they need none."""
    at_one: bool = True
    """See `AuxiliaryGroups`."""
    _source: RowSource = field(init=False, repr=False)
    _newest: tuple[int, AuxiliaryGroups] | None = field(init=False, repr=False, default=None)
    """The last step that was asked for, with its groups: its cost is asked for, and then its gradient."""

    def __post_init__(self) -> None:
        size = min(self.rows_per_step, len(self.rows))
        self._source = RowSource(self.rows, sequences_per_step=size, seed=self.seed)

    def of_step(self, step: int) -> AuxiliaryGroups:
        """The groups of a step, counted from 1."""
        if self._newest is None or self._newest[0] != step:
            source = self._source
            source.position = (step - 1) * source.sequences_per_step
            source.total = source.position + source.sequences_per_step
            drawn = next(iter(source))
            groups = drawn if self.fill is None else self.fill(drawn)
            self._newest = step, AuxiliaryGroups(self.name, groups, self.loss, self.at_one)
        return self._newest[1]
