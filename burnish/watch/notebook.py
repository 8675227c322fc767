"""Line of progress in a Jupyter notebook: one output that is rewritten in place. Needs no widgets."""

from __future__ import annotations

import time
from collections.abc import Callable
from html import escape
from typing import Any

_SECONDS = 0.5
"""Seconds between two updates: each is a message to the browser."""


class NotebookLine:
    """A bar with a line of text, in the output of the cell that runs."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """`now` is the clock, in seconds."""
        self._now = now
        self._handle: Any = None
        self._shown = 0.0

    def show(self, text: str, done: int, total: int) -> None:
        """Shows the text beside a bar, in place of the one before; at most twice a second, and always at the end."""
        now = self._now()
        if self._handle is not None and done < total and now - self._shown < _SECONDS:
            return
        self._shown = now
        bar = f'<progress value="{done}" max="{max(1, total)}" style="vertical-align:middle"></progress>'
        bundle = {"text/plain": text, "text/html": f"<div>{bar} <code>{escape(text)}</code></div>"}
        if self._handle is None:
            from IPython.display import display  # there is one wherever rich finds a notebook

            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
