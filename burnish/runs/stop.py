"""Graceful stop by Ctrl+C or SIGTERM: the loop reads the request between two steps, writes a checkpoint and ends.

Used around the loop. A second Ctrl+C does not wait: it raises KeyboardInterrupt at once.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Self

from burnish.parallel.world import ONE_PROCESS, World

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignal:
    """Context manager that records stop signals. Outside the main thread, where Python gets no signals, it records
    none.

    Example: ``with StopSignal() as stop: ... if stop.requested: save_checkpoint(...); raise Interrupted(...)``.
    """

    def __init__(self, world: World = ONE_PROCESS) -> None:
        """Of several processes, which stop after the same step, any may get the signal."""
        self._world = world
        self._requested = False
        self._num_interrupts = 0
        # None is a handler that was not installed from Python, and cannot be restored from it.
        self._previous_handlers: dict[signal.Signals, object] = {}

    @property
    def requested(self) -> bool:
        """Whether a stop was requested, of any process; all of them read it at the same place of the work."""
        return any(self._world.gather(self._requested))

    def request(self) -> None:
        """Requests a stop, as a signal does."""
        self._requested = True

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._previous_handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)  # type: ignore[arg-type]
        self._previous_handlers.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._num_interrupts += number == signal.SIGINT
        if self._num_interrupts > 1:
            raise KeyboardInterrupt
        self._requested = True
        if self._world.is_main:
            os.write(2, b"\nstopping after this step (once more to stop at once)\n")
