"""Progress counter on one terminal line, for work that is done before a run folder with its log exists."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console


def count_on_terminal(label: str) -> Callable[[int, int], None]:
    """Function of (done, total) that rewrites one line of the terminal; it prints nothing without a terminal."""
    console = Console(stderr=True, highlight=False)

    def update(done: int, total: int) -> None:
        if console.is_terminal:
            console.print(f"{label}: {min(done, total):,} of {total:,}", end="\n" if done >= total else "\r")

    return update
