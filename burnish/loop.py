"""The one loop. It knows no method by name: groups come from a source, a loss says what to minimise.

Stands over sources, step and runs. Everything that a stage needs is handed in; what it adds is only the order of
things: steps, lines of figures, evaluations, checkpoints, and an end that can be resumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from burnish.cadence import Cadence
from burnish.dry_run import dry_run
from burnish.early_stopping import EarlyStopping
from burnish.errors import Interrupted
from burnish.evaluate.evaluator import Evaluator
from burnish.losses.base import Loss
from burnish.runs.resume import TrainState, restore, save
from burnish.runs.stage_folder import StageFolder
from burnish.runs.stop import StopSignal
from burnish.schedule import Schedule
from burnish.sources.base import ReportsMetrics, Source
from burnish.step import Trainer
from burnish.types import Group
from burnish.watch.seen import Seen
from burnish.watch.watch import Sinks, Watch


@dataclass(frozen=True, eq=False, slots=True)
class Stage:
    """One stage of a run, with everything that it needs."""

    name: str
    trainer: Trainer
    source: Source
    loss: Loss
    schedule: Schedule
    cadence: Cadence
    tokens_per_microbatch: int
    evaluators: Sequence[Evaluator] = ()
    """Who is asked at an evaluation; empty: there is none."""
    rehearsal: Sequence[Group] = ()
    """The costliest groups that a microbatch can have, computed once before the first step; empty: nothing is."""
    stopping: EarlyStopping = field(default_factory=EarlyStopping)
    """Whether the stage ends early, and which weights it hands on."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints that must be the same when the run goes on."""
    notes: Sequence[str] = ()
    """What people should know before it begins."""

    def run(self, folder: StageFolder, listeners: Sinks, stop: StopSignal) -> None:
        """Trains to the end, or until asked to stop; goes on after the newest checkpoint if there is one.

        Raises:
            Interrupted: asked to stop; a checkpoint was written.
        """
        policy, say = self.trainer.policy, listeners.progress.say
        seen = Seen()
        remembering = {"stopping": self.stopping, "loss": self.loss, "seen": seen}
        stand = TrainState(self.trainer, self.source, remembering, self.facts)
        done = restore(folder, stand, say)
        computed, alarms = (policy.device, policy.causal_lm.dtype), self.stopping.rule.alerts
        with Watch(self.name, done, self.source.num_steps, listeners, *computed, alarms) as watch:
            if done == 0:
                self._evaluate(0, folder, watch)
            if stop.requested:
                raise self._interrupted(done)
            if self.rehearsal:
                dry_run(self.trainer, self.rehearsal, self.loss, self.tokens_per_microbatch)
            watch.begin()
            seen.begin()
            for step, groups in enumerate(self.source, start=done + 1):
                if self.stopping.over:
                    break
                factor = self.schedule.factor(step - 1)
                sums = self.trainer.step(groups, self.loss, self.tokens_per_microbatch, factor)
                rate = factor * self.trainer.optimizer.settings.learning_rate
                told, tokens = self._told(step, folder), policy.num_tokens(groups)
                counted = seen.count(samples=_num_samples(groups), tokens=tokens, epoch=self.source.epoch)
                watch.step(step, sums, rate, tokens, policy.num_flops(groups), told, counted)
                if watch.alarm is not None:
                    self.stopping.on_alert(step, watch.alarm)
                self._after(step, folder, stand, watch, stop)

    def _told(self, step: int, folder: StageFolder) -> Mapping[str, float]:
        """What the source has to tell of the step: figures, and samples, which are written here."""
        if not isinstance(self.source, ReportsMetrics):
            return {}
        folder.append_samples({"stage": self.name, "step": step, **asdict(sample)} for sample in self.source.samples)
        return self.source.figures

    def _after(self, step: int, folder: StageFolder, stand: TrainState, watch: Watch, stop: StopSignal) -> None:
        """What is due after a step: a line, an evaluation, a checkpoint, the end."""
        cadence, total = self.cadence, self.source.num_steps
        stopping = stop.requested  # asked once: a later signal is for the next step, which writes a checkpoint
        evaluates, keeps = cadence.should_evaluate(step, total), stopping or cadence.should_save(step, total)
        if cadence.should_log(step) or evaluates or keeps:
            watch.flush(step)
        if evaluates:
            self._evaluate(step, folder, watch)
        over = self.stopping.over
        if keeps or over:
            if not stopping:  # who asked to stop does not want to wait
                self.source.settle()
            save(folder, stand, step=step, at_most=cadence.keep_last)
        if evaluates or keeps:
            watch.go_on()
        if stopping and step < total and not over:
            raise self._interrupted(step)

    def _interrupted(self, step: int) -> Interrupted:
        written = "a checkpoint is written" if step else "nothing was trained yet"
        return Interrupted(f"stopped after step {step} of {self.source.num_steps}, {written}")

    def _evaluate(self, step: int, folder: StageFolder, watch: Watch) -> None:
        """What the evaluators find goes to samples.jsonl, then to metrics.jsonl."""
        policy = self.trainer.policy
        with self.trainer.optimizer.in_use():
            findings = [evaluator.evaluate(policy) for evaluator in self.evaluators]
            samples = [sample for found in findings for sample in found.samples]
            folder.append_samples({"stage": self.name, "step": step, **asdict(sample)} for sample in samples)
            figures = {name: value for found in findings for name, value in found.figures.items()}
            if figures:
                watch.evaluated(step, figures)
                self.stopping.evaluated(step, figures, policy.trained_parameters())


def _num_samples(groups: Sequence[Group]) -> int:
    """Responses that a step trains on; those that are only measured do not count."""
    return sum(len(group.responses) for group in groups if not group.scored_only)
