"""Training loop of all methods: groups come from a source, and a loss is minimized on them.

Everything that a stage needs is passed in. The loop only orders it: steps, metrics, evaluations, checkpoints, and an
end that can be resumed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from burnish.errors import Interrupted
from burnish.evaluate.evaluator import Evaluator
from burnish.export.export import export
from burnish.parallel.agreement import require_agreement
from burnish.parallel.world import World
from burnish.runs.extension import Extension
from burnish.runs.resume import restore, save
from burnish.runs.stage_folder import StageFolder
from burnish.runs.stop import StopSignal
from burnish.runs.training_state import StatefulObject, TrainState
from burnish.sources.base import Source
from burnish.train.cadence import Cadence
from burnish.train.callbacks import NO_CALLBACKS, Callbacks, CheckpointInfo, EvaluationInfo, StepInfo
from burnish.train.early_stopping import EarlyStopping, put_in
from burnish.train.extend import extend
from burnish.train.job import Job, Template
from burnish.train.learner import Learner
from burnish.types import Group
from burnish.watch.journal_lines import SampleLine
from burnish.watch.run_counters import RunCounters
from burnish.watch.watch import Sinks, Watch


@dataclass(frozen=True, eq=False)
class Stage(Job):
    """Job that trains a model."""

    name: str
    learners: tuple[Learner, ...]
    """The trained roles; the first is the policy, which is evaluated and saved."""
    source: Source
    cadence: Cadence
    evaluators: Sequence[Evaluator] = ()
    """Evaluators that run at every evaluation; empty: no evaluation."""
    dry_run_groups: Sequence[Group] = ()
    """Dry run: groups of the largest microbatch, computed once before the first step; empty: no dry run."""
    stopping: EarlyStopping = field(default_factory=EarlyStopping)
    """Early stopping, and the weights of the final model."""
    snapshots: Mapping[str, StatefulObject] = field(default_factory=dict)
    """Roles whose weights change without a learner, by name."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints that must be equal when the run is resumed."""
    notes: Sequence[str] = ()
    """Lines for the log before the stage begins."""
    penalties: Collection[str] = ()
    """Rewards of negative weight, of which less is better; alerts read their metrics."""
    callbacks: Callbacks = NO_CALLBACKS
    """Functions of the user that are called after steps, evaluations and checkpoints."""

    def run(self, folder: StageFolder, listeners: Sinks, stop: StopSignal) -> dict[str, Any]:
        """Trains to the end, or until a stop signal; resumes from the newest checkpoint if there is one.

        Returns:
            The summary, see `EarlyStopping.summary`.

        Raises:
            Interrupted: a stop signal came; a checkpoint was written.
        """
        self._train(folder, listeners, stop)
        if reason := self.stopping.reason():
            listeners.progress.say(f"{reason}; the schedule is that of all {self.source.num_steps} steps")
        return self.stopping.summary(self.source.num_steps)

    def with_callbacks(self, callbacks: Callbacks) -> Self:
        return replace(self, callbacks=callbacks)

    def extend(self, folder: StageFolder, extension: Extension) -> None:
        extend(folder, self.name, self._state(RunCounters()), self.stopping, extension)

    def write_model(self, folder: StageFolder, template: Template, end_tokens: Collection[int]) -> None:
        policy = self.policy.model
        with self.policy.trainer.optimizer.in_use():
            put_in(self.stopping.weights, policy.trained_pieces())
            with policy.placement.whole(here=self._world.is_main):
                folder.write_model(lambda empty: export(policy, empty, template=template, end_tokens=end_tokens))

    @property
    def policy(self) -> Learner:
        """The learner whose model is evaluated and saved."""
        return self.learners[0]

    @property
    def _world(self) -> World:
        return self.policy.trainer.world

    def _state(self, seen: RunCounters) -> TrainState:
        others: dict[str, StatefulObject] = {"stopping": self.stopping, "seen": seen}
        return TrainState(self.learners, self.source, others, self.snapshots, self.fingerprints)

    def _train(self, folder: StageFolder, listeners: Sinks, stop: StopSignal) -> None:
        policy, seen = self.policy.model, RunCounters()
        state = self._state(seen)
        require_agreement(self._world, self.fingerprints)
        done = restore(folder, state, listeners.progress.say)
        hardware, alerts = (policy.device, policy.causal_lm.dtype), self.stopping.rule.alerts
        self.source.report_to(listeners.progress.part)
        total, callbacks = self.source.num_steps, self.callbacks if listeners.is_main else NO_CALLBACKS
        calls = _Calls(callbacks, self.name, total, stop)
        with Watch(self.name, done, total, listeners, *hardware, alerts, self.penalties) as watch:
            if done == 0:
                self._evaluate(0, folder, watch, calls)
            if stop.requested:
                raise self._interrupted(done)
            for learner in self.learners if self.dry_run_groups else ():
                learner.dry_run(self.dry_run_groups)
            watch.begin()
            seen.begin()
            for step, groups in enumerate(self.source, start=done + 1):
                if self.stopping.over:
                    break
                self._train_on(groups, step, folder, watch, seen)
                calls.step(step, watch)
                self._after_step(step, folder, state, watch, calls)
            if not self.stopping.over and not self.cadence.evaluates_at(total):
                self._evaluate(total, folder, watch, calls)

    def _train_on(
        self, groups: Sequence[Group], step: int, folder: StageFolder, watch: Watch, seen: RunCounters
    ) -> None:
        """Trains on the groups of a step, and records it."""
        policy = self.policy.model
        self._world.at(f"training step {step}")
        for note in self.source.notes:
            watch.say(note)
        flops = sum(learner.num_flops(groups, step) for learner in self.learners)
        sums, rate = self._step(groups, step), self.policy.learning_rate(step)
        self.source.after_step(step)
        metrics, tokens = self._source_metrics(step, folder), policy.num_tokens(groups)
        counted = seen.count(samples=_num_samples(groups), tokens=tokens, epoch=self.source.epoch)
        watch.step(step, sums, rate, tokens, flops, metrics, counted)
        if watch.alarm is not None:
            self.stopping.on_alert(step, watch.alarm)

    def _step(self, groups: Sequence[Group], step: int) -> Mapping[str, Tensor | float]:
        """One step of every learner; metrics of the others than the policy begin with the learner's name."""
        sums: dict[str, Tensor | float] = {**self.policy.step(groups, step)}
        for learner in self.learners[1:]:
            sums |= {f"{learner.name}/{name}": value for name, value in learner.step(groups, step).items()}
            sums[f"{learner.name}/learning_rate"] = learner.learning_rate(step)
        return sums

    def _source_metrics(self, step: int, folder: StageFolder) -> Mapping[str, float]:
        """Metrics of the source for the step; its samples are written to samples.jsonl."""
        folder.append_samples(SampleLine(self.name, step, sample).to_line() for sample in self.source.samples)
        return self.source.metrics

    def _after_step(self, step: int, folder: StageFolder, state: TrainState, watch: Watch, calls: _Calls) -> None:
        """Does what is due after a step: a log line, an evaluation, a checkpoint, the end of the stage. The evaluation
        after the last step follows its checkpoint, unless it is due anyway: so a longer run has the same one."""
        cadence, total = self.cadence, self.source.num_steps
        evaluates = cadence.evaluates_at(step)
        if cadence.should_log(step) or evaluates or watch.is_due:
            watch.flush(step)
        if evaluates:
            self._evaluate(step, folder, watch, calls)
        stopping, over = calls.stop.requested, self.stopping.over
        saves = stopping or over or cadence.should_save(step, total)
        if saves:
            watch.flush(step)
            if not stopping:  # after a stop signal nothing that takes long is done
                self.source.validate()
            self._world.at(f"writing the checkpoint of step {step}")
            calls.checkpoint(step, save(folder, state, step=step, at_most=cadence.keep_last))
            if self.callbacks.on_checkpoint is not None:
                stopping = calls.stop.requested
        if evaluates or saves:
            watch.go_on()
        if stopping and step < total and not over:
            raise self._interrupted(step)

    def _interrupted(self, step: int) -> Interrupted:
        written = "a checkpoint is written" if step else "nothing was trained yet"
        return Interrupted(f"stopped after step {step} of {self.source.num_steps}, {written}")

    def _evaluate(self, step: int, folder: StageFolder, watch: Watch, calls: _Calls) -> None:
        """Runs the evaluators; writes their samples to samples.jsonl, then their metrics to metrics.jsonl."""
        policy = self.policy.model
        if not self.evaluators:
            return
        self._world.at(f"evaluating after step {step}")
        with ExitStack() as stack:
            stack.enter_context(watch.evaluating())
            for learner in self.learners:
                stack.enter_context(learner.trainer.optimizer.in_use())
            results = [evaluator.evaluate(policy, watch.on_part) for evaluator in self.evaluators]
            samples = [sample for result in results for sample in result.samples]
            folder.append_samples(SampleLine(self.name, step, sample).to_line() for sample in samples)
            metrics = {name: value for result in results for name, value in result.figures.items()}
            if metrics:
                written = watch.evaluated(step, metrics)
                self.stopping.evaluated(step, metrics, policy.trained_pieces())
                calls.evaluation(step, written)


def _num_samples(groups: Sequence[Group]) -> int:
    """Number of responses that a step trains on, without those of groups that are only scored."""
    return sum(len(group.responses) for group in groups if not group.scored_only)


@dataclass(frozen=True, slots=True)
class _Calls:
    """Calls the callbacks of a stage, and asks the run to stop if one returns False."""

    callbacks: Callbacks
    stage: str
    total: int
    stop: StopSignal
    """Request to stop, of a signal or of a callback."""

    def step(self, step: int, watch: Watch) -> None:
        if self.callbacks.on_step is not None:
            self._stop_if_false(self.callbacks.on_step(StepInfo(self.stage, step, self.total, watch.newest())))

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        if self.callbacks.on_evaluation is not None:
            self._stop_if_false(self.callbacks.on_evaluation(EvaluationInfo(self.stage, step, self.total, metrics)))

    def checkpoint(self, step: int, path: Path) -> None:
        if self.callbacks.on_checkpoint is not None:
            self._stop_if_false(self.callbacks.on_checkpoint(CheckpointInfo(self.stage, step, self.total, path)))

    def _stop_if_false(self, answer: object) -> None:
        if answer is False:
            self.stop.request()
