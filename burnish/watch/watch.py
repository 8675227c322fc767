"""What a stage tells while it runs, and who hears it: metrics.jsonl, people, trackers, alerts, the report.

Stands beside the loop, which tells a `Watch` what happened and knows none of those who listen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

import torch
from torch import Tensor

from burnish.watch.alerts import Alerts, rl_rules, worth_telling
from burnish.watch.format import FIGURES, told_figures
from burnish.watch.lines import read_lines
from burnish.watch.meter import Line, Meter
from burnish.watch.progress import Progress
from burnish.watch.report import ending, refresh_report
from burnish.watch.tracking import NOWHERE, Tracking

REPORT_SECONDS = 60.0
"""Between reports of a run that goes on. Writing one of a long run takes about a second."""


@dataclass(frozen=True, slots=True)
class Sinks:
    """Who hears of a run, whatever its stages are."""

    folder: Path
    """The run folder."""
    write: Callable[[Sequence[Line]], None]
    """Appends lines to its metrics.jsonl."""
    progress: Progress
    tracking: Tracking = NOWHERE


class Watch:
    """One stage, watched. A context manager: leaving it closes the trackers and writes the report."""

    def __init__(
        self,
        stage: str,
        done: int,
        total: int,
        listeners: Sinks,
        device: torch.device,
        dtype: torch.dtype,
        alarms: Collection[str] = (),
    ) -> None:
        """
        Args:
            stage: its name.
            done: steps that were done before; metrics.jsonl holds the lines of these and no others.
            total: steps of the stage.
            listeners: who hears of it.
            device: where the model is computed.
            dtype: in which type.
            alarms: alerts of what is tried that are looked for at every step, whenever lines are written.
        """
        self._total = total
        self._to = listeners
        self._meter = Meter(stage, self._write, device, dtype)
        past = [line for line in read_lines(listeners.folder / "metrics.jsonl") if line["stage"] == stage]
        self._alerts = Alerts(past)
        self._alarms = Alerts(past, [rule for rule in rl_rules() if rule.name in alarms])
        self.alarm: str | None = None
        """The newest step raised one of the alarms: why, in words."""
        self._trackers = listeners.tracking.open(listeners.folder, stage, done, past)
        for place in self._trackers.places:
            listeners.progress.say(place)
        listeners.progress.start(stage, done, total)
        self._reported = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._trackers.close(failed=ending(error) not in ("running", "interrupted"))
        refresh_report(self._to.folder, ending(error), self._to.progress.say)

    def begin(self) -> None:
        """The first step begins: all before it was preparation."""
        self._to.progress.begin_clock()
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
        """A step was done: its sums, how many tokens and FLOPs of the model it took, figures of the responses that were
        written for it, and the stage's counters (`Seen.count`). Waits for nothing."""
        figures = {f"train/{name}": value for name, value in sums.items()}
        figures |= {
            "train/learning_rate": learning_rate,
            **{f"rollout/{name}": each for name, each in rollouts.items()},
        }
        self._meter.record(step, figures, tokens, flops, seen)
        told = {name: value for name, value in figures.items() if name.startswith("rollout/")}
        self.alarm = next((alert.message for alert in self._alarms.observe({"step": step, **told})), None)

    def flush(self, step: int) -> None:
        """A line for people is due, and everything up to `step` is written.

        Raises:
            DivergenceError: see `Meter.flush`.
        """
        means = self._meter.flush()
        told = {name.removeprefix("train/"): value for name, value in means.items() if _is_told(name)}
        self._to.progress.update(step, self._total, told)

    def evaluated(self, step: int, sums: Mapping[str, Tensor | float]) -> None:
        """An evaluation was done.

        Raises:
            DivergenceError: see `Meter.flush`.
        """
        figures = self._meter.write_now(step, {f"eval/{name}": value for name, value in sums.items()})
        told = told_figures({name.removeprefix("eval/"): value for name, value in figures.items()})
        self._to.progress.say(f"step {step}: held-out {', '.join(told)}")

    def go_on(self) -> None:
        """Training goes on after something else, such as a checkpoint: that time was not training's."""
        if time.monotonic() - self._reported > REPORT_SECONDS:
            refresh_report(self._to.folder, "running", self._to.progress.say)
            self._reported = time.monotonic()
        self._meter.restart()

    def _write(self, lines: Sequence[Line]) -> None:
        """An alert's line follows the line that it is about."""
        written: list[Line] = []
        for line in lines:
            written.append(line)
            for alert in self._alerts.observe(line):
                head: Line = {"stage": line["stage"], "step": alert.step}
                written.append({**head, "alert": alert.name, "message": alert.message, "count": alert.count})
                if worth_telling(alert):
                    again = f" ({alert.count} times so far)" if alert.count > 1 else ""
                    self._to.progress.say(f"alert at step {alert.step}: {alert.message}{again}", style="yellow")
        self._to.write(written)
        self._trackers.write(written)


def _is_told(name: str) -> bool:
    """Whether a figure is for a line of progress: of those of responses, only what has a name for people."""
    return not name.startswith("rollout/") or name in FIGURES
