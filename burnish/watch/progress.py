"""Progress of a run: a bar on a terminal or in a notebook, lines in a pipe and in the log file."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from burnish.errors import BurnishError
from burnish.watch.format import clock, progress_texts
from burnish.watch.notebook import NotebookLine

_BAR = (6, 40)
"""Smallest and largest width of the bar, columns."""
_REFRESHES_PER_SECOND = 2
_SILENCE = 60.0
"""Seconds after which a line is due, however few steps were done."""
_WIDTH = 80
"""Columns of a line in a pipe, of which whoever reads it later has at least so many."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Progress:
    """Reports the progress of a stage to the log file and to the terminal."""

    def __init__(self, console: Console, log: TextIO, now: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            console: the terminal, notebook or pipe.
            log: the log file; closed at the end.
            now: clock, seconds.
        """
        self._console = console
        self._log = log
        self._now = now
        self._live: Live | None = None
        self._notebook: NotebookLine | None = None
        self._state = State("", 0, 0)
        self._done = 0
        self._started = self._since = self._written = self._updated = now()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_bar()
        if error is not None and str(error):
            name = "" if isinstance(error, BurnishError) else f"{type(error).__name__}: "
            self.note(f"{name}{error}")
        self._log.close()

    def say(self, message: str, style: str = "") -> None:
        """Prints and logs a message; on a terminal in a style such as "yellow", and wrapped between words.

        Control characters, which may come from the user's data, are escaped, since a terminal would execute them.
        """
        plain = _escaped(message)
        self._write_log(plain)
        wraps = self._console.is_terminal or self._console.is_jupyter
        self._console.print(plain, style=style, highlight=False, markup=False, soft_wrap=not wraps)

    def measured(self, step: int, metrics: Mapping[str, float]) -> None:
        """Reports the metrics of an evaluation: all of them in the log and on a terminal, wrapped between words;
        in a pipe those that fit into a line."""
        head, texts = f"step {step}: held-out ", progress_texts(metrics)
        whole = head + ", ".join(texts)
        if self._console.is_terminal or self._console.is_jupyter:
            self.say(whole)
            return
        self._write_log(whole)
        fitting = _fitting(texts, max(_WIDTH, self._console.width) - len(head) + 2, 2)
        self._console.print(head + ", ".join(fitting), highlight=False, markup=False, soft_wrap=True)

    def note(self, message: str) -> None:
        """Logs a message that the terminal has already, or gets otherwise."""
        self._write_log(_escaped(message))

    def start(self, stage: str, done: int, total: int) -> None:
        """Starts a stage of `total` steps, `done` of which were done by an earlier process."""
        self._stop_bar()
        self._done = done
        self._state = State(stage, done, total)
        self._started = self._now()
        self.begin_clock()
        if self._console.is_jupyter:
            self._notebook = NotebookLine()
        elif self._console.is_terminal:
            self._live = Live(
                get_renderable=self._current, console=self._console, refresh_per_second=_REFRESHES_PER_SECOND
            )
            self._live.start()

    def begin_clock(self) -> None:
        """Starts the clock for the estimate of the time left."""
        self._since = self._now()

    @property
    def is_due(self) -> bool:
        """Whether the last line is so old that a step, or a part of one, is reported whatever its number."""
        return self._now() - self._written >= _SILENCE

    def doing(self, activity: str, *, line: bool = False) -> None:
        """Shows on the bar what is done besides steps, such as an evaluation; "": steps.

        Args:
            activity: what is done.
            line: whether a pipe and the log get a line about it.
        """
        self._state = replace(self._state, activity=activity)
        self._show_in_notebook()
        if line:
            when = f"after step {self._state.step}" if self._state.step else "before step 1"
            self._print_line(f"{when}: {activity}")

    def part(self, activity: str, done: int, total: int) -> None:
        """As `doing`, with the part of it that is done; a pipe and the log get a line a minute."""
        self.doing(f"{activity}, {done:,} of {total:,}", line=self.is_due)

    def advance(self, step: int) -> None:
        """Moves the bar; lines are written by `update`."""
        self._state = replace(self._state, step=step, activity="")
        self._show_in_notebook()

    def update(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Reports that step `step` of `total` was done, in a line, and on the bar."""
        self._updated = self._now()
        seconds_left = (self._updated - self._since) / max(1, step - self._done) * (total - step)
        self._state = State(
            self._state.stage, step, total, progress_texts(metrics), seconds_left, self._updated - self._started
        )
        self._write_log(self._state.line())
        self._show_in_notebook()
        if self._live is None and self._notebook is None:
            self._console.print(
                self._state.line(max(_WIDTH, self._console.width)), highlight=False, markup=False, soft_wrap=True
            )

    def _current(self) -> State:
        """The state with the present time."""
        now, left = self._now(), self._state.seconds_left
        left = None if left is None else max(0.0, left - (now - self._updated))
        return replace(self._state, seconds_left=left, seconds_elapsed=now - self._started)

    def _show_in_notebook(self) -> None:
        if self._notebook is not None:
            state = self._current()
            self._notebook.show(f"{state.stage}: {state.line()}", state.step, state.total)

    def _print_line(self, line: str) -> None:
        self._write_log(line)
        if self._live is None and self._notebook is None:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _stop_bar(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        self._notebook = None

    def _write_log(self, message: str) -> None:
        self._written = self._now()
        self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")
        self._log.flush()


@dataclass(frozen=True, slots=True)
class State:
    """State of a stage, rendered as one terminal line of any width: parts that do not fit are left out."""

    stage: str
    step: int
    total: int
    metrics: tuple[str, ...] = ()
    """Formatted metrics in the order of importance."""
    seconds_left: float | None = None
    """None: not known yet."""
    seconds_elapsed: float | None = None
    """Seconds since the stage began in this process; None: not known."""
    activity: str = ""
    """What is done besides steps, such as an evaluation."""

    @property
    def percent(self) -> str:
        """Share of the steps that are done; 100 % only after the last one."""
        return f"{100 * self.step // max(1, self.total)} %"

    def line(self, width: int | None = None) -> str:
        """The state as a line of text.

        Args:
            width: columns; metrics that do not fit are left out, the least important first. None: any.
        """
        head, times = f"step {self.step}/{self.total} ({self.percent})", [*self._elapsed, *self._left]
        space = math.inf if width is None else width - len(head) - sum(len(text) + 3 for text in times)
        fitting = _fitting((*self._activity, *self.metrics), space, 3)
        return " · ".join((head, *fitting, *times))

    @property
    def parts(self) -> list[str]:
        """Texts after the number of steps, the most important first."""
        first, rest = self.metrics[:1], self.metrics[1:]
        return [*self._activity, self.percent, *self._left, *first, *self._elapsed, *rest]

    @property
    def _activity(self) -> list[str]:
        return [self.activity] if self.activity else []

    @property
    def _elapsed(self) -> list[str]:
        return [] if self.seconds_elapsed is None else [f"{clock(self.seconds_elapsed)} elapsed"]

    @property
    def _left(self) -> list[str]:
        return [] if self.seconds_left is None else [f"{clock(self.seconds_left)} left"]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        parts = [f"{self.step:,}/{self.total:,}"]
        space = options.max_width - len(self.stage) - 1 - len(parts[0])
        for text in self.parts:
            if space - _BAR[0] - 1 < len(text) + 3:
                break
            parts.append(text)
            space -= len(text) + 3
        row = Table.grid(padding=(0, 1, 0, 0))
        cells: list[Text | ProgressBar] = [Text(self.stage, no_wrap=True, overflow="crop")]
        if space > _BAR[0]:
            width = min(_BAR[1], space - 1)
            cells.append(ProgressBar(total=max(1, self.total), completed=self.step, width=width))
        cells.append(Text(" · ".join(parts), no_wrap=True, overflow="crop"))
        row.add_row(*cells)
        yield row


def _fitting(texts: Sequence[str], space: float, separator: int) -> list[str]:
    """The first texts that fit into so many columns, each with a separator of this width."""
    fitting = []
    for text in texts:
        space -= len(text) + separator
        if space < 0:  # so every line has the same metrics
            break
        fitting.append(text)
    return fitting


def _escaped(message: str) -> str:
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", message)


def open_progress(log: Path, *, is_main: bool = True) -> Progress:
    """Progress on standard error, logged to a file that is appended to. Of several processes the main one speaks; that
    of the others goes nowhere."""
    console = Console(stderr=True) if is_main else Console(quiet=True, force_terminal=False, force_jupyter=False)
    return Progress(console, (log if is_main else Path(os.devnull)).open("a", encoding="utf-8"))
