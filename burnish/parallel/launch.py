"""Starts the processes of a run on this machine: ``burnish run recipe.yaml --nproc 4``.

The command that was given becomes the parent of N processes with the same arguments. It serves the rendezvous store,
passes signals on, shows what rank 0 prints and why the first process that fails did, and leaves no process behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from burnish.parallel.heartbeat import EXIT_CODE
from burnish.parallel.place import Place
from burnish.parallel.rendezvous import RUN, say_failed, serve_store, with_prefix

HERE = "127.0.0.1"
_LOCAL = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
"""Processes of one machine talk over its loopback interface, which needs no name and no network."""
GRACE_S = 10.0
"""Seconds in which the others end by themselves after a process has failed."""
_LOOK_S = 0.05
"""Seconds between looks at the processes."""
_EXPLAINED = (1, 2, 130, EXIT_CODE)
"""Statuses of processes that say themselves why they end."""
_LAST_LINES = 60
"""Lines of a failed process that are shown."""


@dataclass(eq=False, slots=True)
class _Child:
    rank: int
    process: subprocess.Popen[bytes]
    said: IO[bytes] | None
    """What it wrote to standard error; None: that of rank 0 is this command's."""


def launch(arguments: Sequence[str], count: int) -> int:
    """Runs ``burnish`` with these arguments in several processes; returns the exit status of the run.

    Args:
        arguments: of the command, such as ``["run", "recipe.yaml"]``.
        count: number of processes.
    """
    store = serve_store()
    children = [_started(arguments, Place(rank, count, rank, HERE, store.port, True)) for rank in range(count)]
    with _signals_passed_to(children):
        try:
            return _ended(children, with_prefix(RUN, store))
        finally:
            for child in children:
                if child.process.poll() is None:
                    child.process.kill()
                child.process.wait()


def _started(arguments: Sequence[str], place: Place) -> _Child:
    """A process in a group of its own, so that a Ctrl+C reaches it once, from this command."""
    environment = {**_LOCAL, **os.environ, **_threads(place.size), **place.variables()}
    said = None if place.rank == 0 else tempfile.TemporaryFile()  # noqa: SIM115  # closed with the child
    process = subprocess.Popen(
        [sys.executable, "-m", "burnish", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=None if place.rank == 0 else subprocess.DEVNULL,
        stderr=said,
        process_group=0,
    )
    return _Child(place.rank, process, said)


def _threads(count: int) -> Mapping[str, str]:
    """Processor threads of each process, if nobody has set them: its share of this machine's cores."""
    return {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(max(1, _cores() // count))}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _signals_passed_to(children: Sequence[_Child]) -> Iterator[None]:
    def passed(number: int, _frame: Any) -> None:
        for child in children:
            if child.process.poll() is None:
                child.process.send_signal(number)

    before = {number: signal.signal(number, passed) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ended(children: Sequence[_Child], store: Any) -> int:
    """Waits for all; after the first failure, for `GRACE_S` at most. Returns the status of the first that failed."""
    failed: _Child | None = None
    due = float("inf")
    while any(child.process.poll() is None for child in children) and time.monotonic() < due:
        for child in children:
            if failed is None and child.process.poll() not in (None, 0):
                failed, due = child, time.monotonic() + GRACE_S
                _note(child, store)
        time.sleep(_LOOK_S)
    if failed is None:
        failed = next((child for child in children if child.process.poll() not in (None, 0)), None)
    if failed is None:
        return 0
    status = failed.process.returncode
    if failed.said is not None and status not in (130, -signal.SIGINT):
        failed.said.seek(0)
        lines = failed.said.read().decode(errors="replace").splitlines()
        sys.stderr.write("".join(f"[rank {failed.rank}] {line}\n" for line in lines[-_LAST_LINES:]))
    if status not in _EXPLAINED:
        sys.stderr.write(f"burnish: rank {failed.rank} {_reason(status)}\n")
    return status if status > 0 else 1


def _note(child: _Child, store: Any) -> None:
    """Tells the others of a process that did not say itself why it ended."""
    say_failed(store, f"rank {child.rank} {_reason(child.process.returncode)}")


def _reason(status: int) -> str:
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with the status {status}"


def arguments_of_children(words: Sequence[str], output: Path | str) -> list[str]:
    """The command's arguments without those that only it reads, and with the run folder that it chose.

    Example: ``arguments_of_children(["run", "r.yaml", "--nproc", "2"], "runs/r") == ["run", "r.yaml", "--output",
    "runs/r"]``.
    """
    kept: list[str] = []
    skips = False
    for word in words:
        if skips:
            skips = False
        elif word in ("--nproc", "--output"):
            skips = True
        elif not (word == "--fresh" or word.startswith(("--nproc=", "--output=", "output="))):
            kept.append(word)
    end = kept.index("--") if "--" in kept else len(kept)
    return [*kept[:end], "--output", str(output), *kept[end:]]
