"""The one loop. It knows no method by name: groups come from a source, a loss says what to minimise.

Stands over sources, step and runs. Everything that a stage needs is handed in; what it adds is only the order of
things: steps, lines of figures, evaluations, checkpoints, and an end that can be resumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from burnish.errors import Interrupted
from burnish.evaluate import held_out_loss
from burnish.losses import Loss
from burnish.rehearsal import rehearse
from burnish.runs import (
    StageFolder,
    StopSignal,
    capture,
    changed_versions,
    latest_checkpoint,
    load_checkpoint,
    require_facts,
    restore,
    save_checkpoint,
)
from burnish.schedule import Schedule
from burnish.sources import Source
from burnish.step import Trainer
from burnish.stopping import Stopping
from burnish.types import Group
from burnish.watch import Listeners, Progress, Watch


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often things happen, in optimiser steps."""

    checkpoint_every: int
    keep_checkpoints: int
    log_every: int
    eval_every: int | None = None
    """None: before the first step and after the last."""


@dataclass(frozen=True, eq=False, slots=True)
class Stage:
    """One stage of a run, with everything that it needs."""

    name: str
    trainer: Trainer
    source: Source
    loss: Loss
    schedule: Schedule
    rhythm: Rhythm
    tokens_per_microbatch: int
    held_out: Sequence[Group] = ()
    """Empty: no evaluation."""
    rehearsal: Sequence[Group] = ()
    """The costliest groups that a microbatch can have, computed once before the first step; empty: nothing is."""
    stopping: Stopping = field(default_factory=Stopping)
    """Whether the stage ends early, and which weights it hands on."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints that must be the same when the run goes on."""

    def run(self, folder: StageFolder, listeners: Listeners, stop: StopSignal) -> None:
        """Trains to the end, or until asked to stop; goes on after the newest checkpoint if there is one.

        Raises:
            Interrupted: asked to stop; a checkpoint was written.
        """
        done, policy = self._resume(folder, listeners.progress), self.trainer.policy
        with Watch(self.name, done, self.source.num_steps, listeners, policy.device, policy.causal_lm.dtype) as watch:
            if done == 0:
                self._evaluate(0, watch)
            if stop.requested:
                raise self._interrupted(done)
            if self.rehearsal:
                rehearse(self.trainer, self.rehearsal, self.loss, self.tokens_per_microbatch)
            watch.begin()
            for step, groups in enumerate(self.source, start=done + 1):
                if self.stopping.over:
                    break
                factor = self.schedule.factor(step - 1)
                sums = self.trainer.step(groups, self.loss, self.tokens_per_microbatch, factor)
                rate = factor * self.trainer.optimizer.settings.learning_rate
                watch.step(step, sums, rate, policy.num_tokens(groups), policy.num_flops(groups))
                self._after(step, folder, watch, stop)

    def _after(self, step: int, folder: StageFolder, watch: Watch, stop: StopSignal) -> None:
        """What is due after a step: a line, an evaluation, a checkpoint, the end."""
        rhythm, last = self.rhythm, step == self.source.num_steps
        stopping = stop.requested  # asked once: a later signal is for the next step, which writes a checkpoint
        evaluates = last or (rhythm.eval_every is not None and step % rhythm.eval_every == 0)
        keeps = last or stopping or step % rhythm.checkpoint_every == 0
        if step % rhythm.log_every == 0 or evaluates or keeps:
            watch.flush(step)
        if evaluates:
            self._evaluate(step, watch)
        over = self.stopping.over
        if keeps or over:
            if not stopping:  # who asked to stop does not want to wait
                self.source.settle()
            facts = {**self.facts, "metrics_offset": folder.metrics_offset()}
            state = capture(self.trainer, self.source, step, facts, self.stopping)
            save_checkpoint(folder.path, state, rhythm.keep_checkpoints)
        if evaluates or keeps:
            watch.go_on()
        if stopping and not last and not over:
            raise self._interrupted(step)

    def _interrupted(self, step: int) -> Interrupted:
        written = "a checkpoint is written" if step else "nothing was trained yet"
        return Interrupted(f"stopped after step {step} of {self.source.num_steps}, {written}")

    def _evaluate(self, step: int, watch: Watch) -> None:
        if len(self.held_out):
            policy = self.trainer.policy
            with self.trainer.optimizer.in_use():
                sums = held_out_loss(policy, self.held_out, self.loss, self.tokens_per_microbatch)
                watch.evaluated(step, sums)
                self.stopping.observe(step, float(sums["loss"]), policy.trained_parameters())

    def _resume(self, folder: StageFolder, progress: Progress) -> int:
        """Restores the newest checkpoint and cuts the figures back to it; returns the steps done."""
        newest = latest_checkpoint(folder.path)
        for warning in newest.damaged:
            progress.say(warning)
        if newest.path is None:
            folder.cut_metrics(None)
            return 0
        checkpoint = load_checkpoint(newest.path, verified=True)
        require_facts(checkpoint, self.facts)
        restore(checkpoint, self.trainer, self.source, self.stopping)
        folder.cut_metrics(checkpoint.values["facts"]["metrics_offset"])
        for note in (*changed_versions(checkpoint), f"going on after step {checkpoint.step}"):
            progress.say(note)
        return checkpoint.step
