"""Progress on a terminal (a bar), or in a pipe or a file (a line now and then)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """Tells how a stage is going: every message goes to the log file, and to the terminal if there is one."""

    def __init__(self, console: Console, log: TextIO) -> None:
        self._console = console
        self._log = log
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._done = 0
        self._since = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._log.close()

    def say(self, message: str) -> None:
        """A line for people."""
        self._write_log(message)
        (self._bar.console if self._bar else self._console).print(
            message, highlight=False, markup=False, soft_wrap=True
        )

    def start(self, stage: str, done: int, total: int) -> None:
        """A stage of `total` steps begins, `done` of which were done by an earlier run."""
        self._done = done
        self.begin_clock()
        if self._console.is_terminal:
            columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
            self._bar = Bar(*columns, TextColumn("{task.fields[figures]}"), console=self._console)
            self._bar.start()
            self._task = self._bar.add_task(stage, total=total, completed=done, figures="")

    def begin_clock(self) -> None:
        """From now on time counts for the estimate of what is left."""
        self._since = time.perf_counter()

    def update(self, step: int, total: int, figures: Mapping[str, float]) -> None:
        """Step `step` of `total` was done."""
        seconds_left = (time.perf_counter() - self._since) / max(1, step - self._done) * (total - step)
        text = " · ".join(f"{name} {_short(value)}" for name, value in figures.items())
        line = f"step {step}/{total} · {text} · {_clock(seconds_left)} left"
        self._write_log(line)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=step, figures=text)
        else:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _write_log(self, message: str) -> None:
        self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")
        self._log.flush()


def open_progress(log: Path) -> Progress:
    """Progress on standard error, logged to a file that is appended to."""
    return Progress(Console(stderr=True), log.open("a", encoding="utf-8"))


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
