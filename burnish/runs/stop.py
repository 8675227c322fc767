"""Ctrl+C and SIGTERM as a wish that the loop grants between two steps, after it has written a checkpoint.

Around the loop. A second Ctrl+C does not wait: it raises KeyboardInterrupt where the program stands.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignal:
    """A context manager that listens. Outside the main thread, where Python hears no signals, it never asks to stop.

    Example: ``with StopSignal() as stop: ... if stop.requested: save_checkpoint(...); raise Interrupted(...)``.
    """

    def __init__(self) -> None:
        self._requested = False
        self._num_interrupts = 0
        # None is a handler that was not installed from Python, and cannot be put back from it.
        self._earlier: dict[signal.Signals, object] = {}

    @property
    def requested(self) -> bool:
        """Whether the run was asked to stop."""
        return self._requested

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._earlier[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)  # type: ignore[arg-type]
        self._earlier.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._num_interrupts += number == signal.SIGINT
        if self._num_interrupts > 1:
            raise KeyboardInterrupt
        self._requested = True
        os.write(2, b"\nstopping after this step (once more to stop at once)\n")
