"""Heartbeats: every process tells the others, through the rendezvous store, that it lives and what it does.

A process that was stopped, or hangs in a call, cannot say so itself. The others see that its heartbeat stands still,
and end with one error that names it and what it did last; otherwise they would wait for it for ever.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

BEATS = 8
"""Heartbeats within the time after which a process counts as lost."""
_LOOK_S = 0.1
"""Seconds after which the others know what this process does now."""
_ENDED = "done"
"""Phase of a process that needs the others no longer."""
EXIT_CODE = 3
"""Status of a process that ends because another one is lost."""


class Heartbeat:
    """The heartbeat of this process, and the watch over those of the others. A context manager.

    Args:
        store: a connection to the rendezvous store of its own, since a connection serves one thread at a time.
        rank: number of this process.
        size: number of all.
        timeout_s: seconds without a heartbeat after which a process is lost.
        on_lost: called in a thread with the number of a lost process and the words for it.
    """

    def __init__(
        self, store: Any, rank: int, size: int, timeout_s: float, on_lost: Callable[[int, str], None] | None = None
    ) -> None:
        self._store, self._rank, self._size, self._timeout_s = store, rank, size, timeout_s
        self._on_lost = on_lost or end_process
        self._over = threading.Event()
        self._phase = "starting"
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """From here on the others do not miss this process."""
        self._over.set()
        self._thread.join(timeout=self._timeout_s)
        with suppress(RuntimeError, OSError):  # the store may have ended with the process that serves it
            self._store.set(_key(self._rank), f"0 {_ENDED}")

    def at(self, phase: str) -> None:
        """Notes what this process does now."""
        self._phase = phase

    def _beat(self) -> None:
        seen: dict[int, tuple[str, float]] = {}
        """Rank → its newest heartbeat, and when it was new."""
        number, said, due = 0, "", 0.0
        while not self._over.wait(min(_LOOK_S, self._timeout_s / BEATS)):
            if self._phase == said and time.monotonic() < due:
                continue
            number, said, due = number + 1, self._phase, time.monotonic() + self._timeout_s / BEATS
            try:
                self._store.set(_key(self._rank), f"{number} {said}")
                lost = self._lost(seen)
            except (RuntimeError, OSError):
                if not self._over.is_set():
                    self._on_lost(0, "the rendezvous store, which rank 0 or the starting command serves, is gone")
                return
            if lost is not None and not self._over.is_set():
                self._on_lost(*lost)
                return

    def _lost(self, seen: dict[int, tuple[str, float]]) -> tuple[int, str] | None:
        """The first process whose heartbeat stands still, with the words for it."""
        now = time.monotonic()
        for rank in range(self._size):
            beat = self._store.get(_key(rank)).decode() if self._store.check([_key(rank)]) else "0 starting"
            if rank not in seen or seen[rank][0] != beat:
                seen[rank] = beat, now
            elif now - seen[rank][1] > self._timeout_s:
                phase = beat.partition(" ")[2]
                if phase != _ENDED:
                    return rank, f"rank {rank} has not answered for {self._timeout_s:.0f} s; it was last {phase}"
        return None


def _key(rank: int) -> str:
    return f"beat/{rank}"


def end_process(rank: int, words: str) -> None:
    """Prints where this process waits and which one is lost, and ends it: a collective call cannot be interrupted."""
    del rank
    faulthandler.dump_traceback(all_threads=True)
    sys.stderr.write(
        f"burnish: {words}\n  rule: all processes of a run go on together, or none; above is where this one waits\n"
        "  to do: see why that process stopped; the same command resumes from the last checkpoint\n"
    )
    sys.stderr.flush()
    os._exit(EXIT_CODE)
