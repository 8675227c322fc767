"""How far a count is, on one line of a terminal: for work before there is a run folder with its log."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console


def count_on_terminal(what: str) -> Callable[[int, int], None]:
    """A function of (done, all) that rewrites one line of the terminal, and writes nothing where there is none."""
    console = Console(stderr=True, highlight=False)

    def tell(done: int, total: int) -> None:
        if console.is_terminal:
            console.print(f"{what}: {min(done, total):,} of {total:,}", end="\n" if done >= total else "\r")

    return tell
