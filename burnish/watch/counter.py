"""Progress counter on one terminal line, for work that is done before a run folder with its log exists."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console

_FIRST, _NEXT = 2.0, 30.0
"""Seconds until the first line without a terminal, and between lines."""


def count_on_terminal(label: str) -> Callable[[int, int], None]:
    """Function of (done, total) that rewrites one line of the terminal. Without a terminal, it prints a line when two
    seconds have passed, and then every half minute."""
    console = Console(stderr=True, highlight=False)
    due = time.monotonic() + _FIRST

    def update(done: int, total: int) -> None:
        nonlocal due
        done = min(done, total)
        line = f"{label}: {done:,} of {total:,} ({100 * done // max(1, total)} %)"
        if console.is_terminal:
            console.print(line, end="\n" if done >= total else "\r")
        elif time.monotonic() >= due:
            console.print(line)
            due = time.monotonic() + _NEXT

    return update
