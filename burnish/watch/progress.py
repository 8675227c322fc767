"""Progress of a run: a bar on a terminal, lines in a pipe and in the log file."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from burnish.errors import BurnishError
from burnish.watch.format import clock, progress_texts

_BAR = (6, 40)
"""Smallest and largest width of the bar, columns."""
_REFRESHES_PER_SECOND = 2
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Progress:
    """Reports the progress of a stage to the log file and to the terminal."""

    def __init__(self, console: Console, log: TextIO) -> None:
        self._console = console
        self._log = log
        self._live: Live | None = None
        self._state = State("", 0, 0)
        self._done = 0
        self._since = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Closes the log; an error that ends the run, which the command prints, is its last line."""
        self._stop_bar()
        if isinstance(error, BurnishError):
            self._write_log(_printable(str(error)))
        self._log.close()

    def say(self, message: str, style: str = "") -> None:
        """Prints and logs a message; on a terminal in a style such as "yellow".

        Control characters, which may come from the user's data, are escaped, since a terminal would execute them.
        """
        plain = _printable(message)
        self._write_log(plain)
        self._console.print(plain, style=style, highlight=False, markup=False, soft_wrap=True)

    def start(self, stage: str, done: int, total: int) -> None:
        """Starts a stage of `total` steps, `done` of which were done by an earlier process."""
        self._stop_bar()
        self._done = done
        self._state = State(stage, done, total)
        self.begin_clock()
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=lambda: self._state, console=self._console, refresh_per_second=_REFRESHES_PER_SECOND
            )
            self._live.start()

    def begin_clock(self) -> None:
        """Starts the clock for the estimate of the time left."""
        self._since = time.perf_counter()

    def update(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Reports that step `step` of `total` was done."""
        seconds_left = (time.perf_counter() - self._since) / max(1, step - self._done) * (total - step)
        texts = progress_texts(metrics)
        self._state = State(self._state.stage, step, total, texts, seconds_left)
        line = f"step {step}/{total} · {' · '.join((*texts, f'{clock(seconds_left)} left'))}"
        self._write_log(line)
        if self._live is None:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _stop_bar(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _write_log(self, message: str) -> None:
        self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")
        self._log.flush()


def _printable(message: str) -> str:
    """The message with its control characters escaped."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", message)


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

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        parts = [f"{self.step:,}/{self.total:,}"]
        time_left = [] if self.seconds_left is None else [f"{clock(self.seconds_left)} left"]
        space = options.max_width - len(self.stage) - 1 - len(parts[0])
        for text in [*time_left, *self.metrics]:
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


def open_progress(log: Path, *, is_main: bool = True) -> Progress:
    """Progress on standard error, logged to a file that is appended to. Of several processes the main one speaks; that
    of the others goes nowhere."""
    console = Console(stderr=True) if is_main else Console(quiet=True, force_terminal=False)
    return Progress(console, (log if is_main else Path(os.devnull)).open("a", encoding="utf-8"))
