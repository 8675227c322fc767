"""Learner: a trained role of a stage, with its model, optimizer, loss and schedule.

A stage has one learner for each model that it trains: the policy, and with a critic two. Each learner's step sees the
groups of the step; what one learner needs of another's model comes in the groups' streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from burnish.losses.base import Loss
from burnish.model.policy import Model
from burnish.train.dry_run import dry_run
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

    @property
    def model(self) -> Model:
        return self.trainer.policy

    def learning_rate(self, step: int) -> float:
        """Learning rate of a step, counted from 1."""
        return self.schedule.factor(step - 1) * self.trainer.optimizer.settings.learning_rate

    def step(self, groups: Sequence[Group], step: int) -> Sums:
        """One optimizer step on the groups, the stage's step number `step`, counted from 1. Returns its metrics."""
        return self.trainer.step(groups, self.loss, self.tokens_per_microbatch, self.schedule.factor(step - 1))

    def dry_run(self, groups: Sequence[Group]) -> None:
        """Computes the gradient of the groups and drops it, see `dry_run.dry_run`."""
        dry_run(self.trainer, groups, self.loss, self.tokens_per_microbatch)
