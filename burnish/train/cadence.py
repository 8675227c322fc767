"""Cadence of evaluations, checkpoints and log lines: pure functions of the step."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cadence:
    """Intervals in optimizer steps, counted from 1. Evaluation and checkpoint are also due after the last step.

    Example: ``Cadence(checkpoint_every=10, keep_last=2, log_every=5, eval_every=20)``.
    """

    checkpoint_every: int
    keep_last: int
    log_every: int
    eval_every: int | None = None
    """None: before the first step and after the last."""

    def evaluates_at(self, step: int) -> bool:
        """Whether an evaluation is due after a step, whatever the number of steps; the last one always has one."""
        return self.eval_every is not None and step % self.eval_every == 0

    def should_save(self, step: int, total: int) -> bool:
        """Whether a checkpoint is due."""
        return step == total or step % self.checkpoint_every == 0

    def should_log(self, step: int) -> bool:
        """Whether a log line is due."""
        return step % self.log_every == 0
