"""Reports of how far a long piece of work is, such as an evaluation: a function that whoever does it calls."""

from __future__ import annotations

from collections.abc import Callable

OnPart = Callable[[str, int, int], None]
"""Called with what is done, such as prompts answered, and how many of how many are."""


def no_report(activity: str, done: int, total: int) -> None:
    """Reports nothing."""
