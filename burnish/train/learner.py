"""Learner: a trained role of a stage, with its model, optimizer, loss and schedule.

A stage has one learner for each model that it trains: the policy, and with a critic two. Each learner's step sees the
groups of the step; what one learner needs of another's model comes in the groups' streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from burnish.losses.base import Loss
from burnish.model.policy import Model
from burnish.train.auxiliary import Auxiliary
from burnish.train.dry_run import dry_run
from burnish.train.pause import Pause
from burnish.train.schedule import Schedule
from burnish.train.step import Sums, Trainer
from burnish.types import Group


@dataclass(frozen=True, eq=False, slots=True)
class Learner:
    """A trained role. Example: ``Learner("critic", trainer, loss, schedule, tokens_per_microbatch=1024)``."""

    name: str
    """Its role, the name of its folder of a checkpoint's tensors."""
    trainer: Trainer
    """Model and optimizer."""
    loss: Loss
    """Loss that it minimizes; several terms may be one loss."""
    schedule: Schedule
    """Factors of the learning rate over the stage's steps."""
    tokens_per_microbatch: int
    """Maximum number of tokens of a microbatch; it does not change the result."""
    pause: Pause | None = None
    """Steps in which it is not trained; None: it is trained in all."""
    auxiliary: Sequence[Auxiliary] = ()
    """Losses of other rows that are added to its loss."""

    @property
    def model(self) -> Model:
        return self.trainer.policy

    def learning_rate(self, step: int) -> float:
        """Learning rate of a step, counted from 1; 0 before its first one."""
        return self._factor(step) * self.trainer.optimizer.settings.learning_rate

    def is_paused(self, step: int, groups: Sequence[Group]) -> bool:
        """Whether a step on the groups leaves its model as it is."""
        return self.pause is not None and self.pause.applies(step, groups)

    def num_flops(self, groups: Sequence[Group], step: int) -> float:
        """FLOPs of a step, those of auxiliary losses included; 0 in a pause."""
        if self.is_paused(step, groups):
            return 0.0
        others = [group for part in self.auxiliary for group in part.of_step(step - self._skipped).groups]
        return self.model.num_flops([*groups, *others])

    def step(self, groups: Sequence[Group], step: int) -> Sums:
        """One optimizer step on the groups, the stage's step number `step`, counted from 1. Returns its metrics; in a
        pause ``paused`` alone."""
        if self.is_paused(step, groups):
            return {"paused": torch.ones((), device=self.model.device)}
        others = [part.of_step(step - self._skipped) for part in self.auxiliary]
        sums = self.trainer.step(groups, self.loss, self.tokens_per_microbatch, self._factor(step), others)
        if self.pause is not None:
            self.pause.observe(groups, sums)
        return sums

    @property
    def _skipped(self) -> int:
        """Number of steps of the stage before the first one in which the learner is trained."""
        return 0 if self.pause is None else self.pause.first_steps

    def _factor(self, step: int) -> float:
        """Factor of the learning rate; the schedule begins with the first step in which the learner is trained."""
        begun = step - 1 - self._skipped
        return 0.0 if begun < 0 else self.schedule.factor(begun)

    def dry_run(self, groups: Sequence[Group]) -> None:
        """Computes the gradient of the groups and drops it, see `dry_run.dry_run`."""
        dry_run(self.trainer, groups, self.loss, self.tokens_per_microbatch)
