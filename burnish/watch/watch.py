"""Monitoring of a stage: metrics.jsonl, progress, trackers, alerts and the report.

The loop reports steps and evaluations to a `Watch`, which distributes them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from burnish.run_files import METRICS
from burnish.watch.alerts import Alerts, is_announced, rl_rules
from burnish.watch.format import METRIC_FORMATS
from burnish.watch.journal_lines import AlertLine, MetricsLine, read_metrics
from burnish.watch.meter import Meter
from burnish.watch.parts import OnPart
from burnish.watch.progress import Progress
from burnish.watch.report import State, ending, refresh_report
from burnish.watch.tracking import NO_TRACKERS, Tracking

SLOW_SECONDS = 10.0
"""Seconds from which an evaluation is long: the next one is announced before it begins."""
REPORT_SECONDS = 60.0
"""Seconds between reports during a run. Writing one for a long run takes about a second."""


@dataclass(frozen=True, slots=True)
class Sinks:
    """Outputs of the monitoring of a run, shared by its stages."""

    folder: Path
    """The run folder."""
    write: Callable[[Sequence[Mapping[str, Any]]], None]
    """Appends JSON objects to its metrics.jsonl, a line each."""
    progress: Progress
    tracking: Tracking = NO_TRACKERS
    is_main: bool = True
    """Whether this process writes the report and sends lines to trackers; one of several does."""

    def report(self, state: State) -> None:
        """Writes the report with this state of the run."""
        if self.is_main:
            refresh_report(self.folder, state, self.progress.say)


class Watch:
    """Monitoring of one stage. A context manager: leaving it closes the trackers and writes the report."""

    def __init__(
        self,
        stage: str,
        done: int,
        total: int,
        sinks: Sinks,
        device: torch.device,
        dtype: torch.dtype,
        alarms: Collection[str] = (),
        penalties: Collection[str] = (),
    ) -> None:
        """
        Args:
            stage: its name.
            done: steps done by earlier processes; metrics.jsonl has the lines of exactly these.
            total: steps of the stage.
            sinks: outputs.
            device: of the model.
            dtype: of the model.
            alarms: names of the alerts that end the stage; they are evaluated at every step.
            penalties: names of rewards of negative weight, of which less is better.
        """
        self._stage = stage
        self._total = total
        self._sinks = sinks
        self._meter = Meter(stage, self._write, device, dtype)
        recorded = read_metrics(sinks.folder / METRICS)
        past = [line for line in recorded if isinstance(line, MetricsLine) and line.stage == stage]
        self._alerts = Alerts(past, penalties=penalties)
        self._alarms = Alerts(past, [rule for rule in rl_rules(penalties) if rule.name in alarms])
        self.alarm: str | None = None
        """Message of an alarm that the last step raised; None: it raised none."""
        tracking = sinks.tracking if sinks.is_main else NO_TRACKERS
        self._trackers = tracking.open(sinks.folder, stage, done, past)
        for place in self._trackers.places:
            sinks.progress.say(place)
        sinks.progress.start(stage, done, total)
        self._reported = time.monotonic()
        self._evaluation_seconds = math.inf  # of the last one; the first may take long

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._trackers.close(failed=ending(error) not in ("running", "interrupted"))
        self._sinks.report(ending(error))

    def begin(self) -> None:
        """Starts the clocks at the first step."""
        self._sinks.progress.begin_clock()
        self._meter.restart()

    def step(
        self,
        step: int,
        sums: Mapping[str, Tensor | float],
        learning_rate: float,
        tokens: int,
        flops: float,
        rollouts: Mapping[str, float] = MappingProxyType({}),
        seen: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Records a step: its sums, packed tokens and model FLOPs, metrics of its rollouts, and the stage's counters
        (`RunCounters.count`). Does not wait for the device."""
        metrics = {f"train/{name}": value for name, value in sums.items()}
        rollout_metrics = {f"rollout/{name}": value for name, value in rollouts.items()}
        metrics |= {"train/learning_rate": learning_rate, **rollout_metrics}
        self._meter.record(step, metrics, tokens, flops, seen)
        self._sinks.progress.advance(step)
        line = MetricsLine(self._stage, step, rollout_metrics)
        self.alarm = next((alert.message for alert in self._alarms.observe(line)), None)

    @property
    def on_part(self) -> OnPart:
        """Reports how far a long piece of work is."""
        return self._sinks.progress.part

    @property
    def is_due(self) -> bool:
        """Whether a line of progress is due because the last one is old."""
        return self._sinks.progress.is_due

    def newest(self) -> dict[str, float]:
        """Metrics of the last step as in its line, without those of speed and memory. Waits for the device."""
        return self._meter.newest()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Context manager around an evaluation, which is announced if the last one took long."""
        self._sinks.progress.doing("evaluating", line=self._evaluation_seconds > SLOW_SECONDS)
        since = time.monotonic()
        yield
        self._evaluation_seconds = time.monotonic() - since
        self._sinks.progress.doing("")

    def flush(self, step: int) -> None:
        """Writes all steps up to `step`, and a line of progress.

        Raises:
            DivergenceError: see `Meter.flush`.
        """
        means = self._meter.flush()
        if not means:  # written already
            return
        shown = {name.removeprefix("train/"): value for name, value in means.items() if _is_shown(name)}
        self._sinks.progress.update(step, self._total, shown)

    def say(self, line: str) -> None:
        """Prints and logs a line."""
        self._sinks.progress.say(line)

    def evaluated(self, step: int, sums: Mapping[str, Tensor | float]) -> Mapping[str, float]:
        """Writes the metrics of an evaluation; returns them as in its line.

        Raises:
            DivergenceError: see `Meter.flush`.
        """
        metrics = self._meter.write_now(step, {f"eval/{name}": value for name, value in sums.items()})
        shown = {name.removeprefix("eval/"): value for name, value in metrics.items()}
        self._sinks.progress.measured(step, shown)
        return metrics

    def go_on(self) -> None:
        """Restarts the clock after work that is not training, such as a checkpoint. Rewrites the report if it is older
        than REPORT_SECONDS."""
        if time.monotonic() - self._reported > REPORT_SECONDS:
            self._sinks.report("running")
            self._reported = time.monotonic()
        self._meter.restart()

    def _write(self, lines: Sequence[MetricsLine]) -> None:
        """Writes lines, each followed by its alerts; trackers get no alerts."""
        written: list[MetricsLine | AlertLine] = []
        for line in lines:
            written.append(line)
            for alert in self._alerts.observe(line):
                written.append(alert)
                if is_announced(alert):
                    again = f" ({alert.count} times so far)" if alert.count > 1 else ""
                    self._sinks.progress.say(f"alert at step {alert.step}: {alert.message}{again}", style="yellow")
        self._sinks.write([record.to_line() for record in written])
        self._trackers.write(lines)


def _is_shown(name: str) -> bool:
    """Whether a metric is in the line of progress; of rollouts, only those of the table."""
    return not name.startswith("rollout/") or name in METRIC_FORMATS
