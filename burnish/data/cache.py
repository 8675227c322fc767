"""Samples are made once: kept under the identity of all that decides them, and resumed after a kill.

Between `maker` (how rows become samples) and `prepare` (which samples are learned). An entry is a folder; rows are made
in stretches, each a file that appears whole. A stretch is made by whoever claims it: this process, or a worker, which
meets the others only in the entry's folder. So a killed run leaves its stretches to the next, and how many workers
there were leaves no trace.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO

from burnish.data.eviction import LOCK, evict, limit, mark_used
from burnish.data.processes import Process, fork, start_beside
from burnish.data.sample_builder import SampleBuilder
from burnish.data.token_store import TokenStore, join, open_joined, read_tokens, write_tokens

SAMPLES = "samples"
"""The kind of entry that this file makes."""
ROWS_PER_STRETCH = 1024
_ROWS_PER_WORKER = 4096
"""Of fewer rows, a worker has learned few of the words that it meets."""
_SECONDS_BETWEEN = 1.0
"""Of telling how far it is."""
_NICE = 5
"""Of a process beside a training: on a machine without other cores it gets a quarter of one."""
_JOINED = "samples"


def cache_folder() -> Path:
    """Where samples are kept: $BURNISH_CACHE, else burnish in the user's cache folder."""
    if chosen := os.environ.get("BURNISH_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "burnish"


def samples_of(
    maker: SampleBuilder, workers: int | None = None, told: Callable[[int, int], None] | None = None
) -> TokenStore:
    """The samples of all rows: from the cache, or made and kept there.

    Args:
        workers: processes beside this one; None: one for each other core, if there are rows enough for them.
        told: called with the rows done and all rows, from time to time.
    """
    with entry_of(SAMPLES, maker.identity) as entry:
        if (kept := open_joined(entry / _JOINED)) is not None:
            mark_used(entry)
            return kept
        count = _worker_count(len(maker.rows)) if workers is None else workers
        with alone(entry):
            if (kept := open_joined(entry / _JOINED)) is not None:  # another run made it meanwhile
                return kept
            _make(maker, entry, count, told)
            _join(maker, entry)
            kept = open_joined(entry / _JOINED)
        assert kept is not None, "what was just joined can be opened"
        settle(entry)
        return kept


def kept_samples(maker: SampleBuilder) -> TokenStore | None:
    """The samples of all rows from the cache; None: they are not made, or not all of them."""
    return open_joined(cache_folder() / SAMPLES / maker.identity / _JOINED)


def make_beside(maker: SampleBuilder) -> Process | None:
    """Has another process put the samples into the cache, at a lower priority, while this one does something else.

    Returns:
        That process; None: the cache cannot be written, so what it makes would be lost.
    """
    with entry_of(SAMPLES, maker.identity) as entry:
        if entry.parent != cache_folder() / SAMPLES:
            return None
    with tempfile.NamedTemporaryFile(prefix="burnish-job-", delete=False) as file:
        pickle.dump(maker, file)
    return start_beside(Path(file.name), nice=_NICE)


def work(maker: SampleBuilder, entry: Path, claims: Path, told: Callable[[int, int], None] | None = None) -> None:
    """Makes every stretch that is neither there nor claimed by another process."""
    paths, last = _paths(maker, entry), time.monotonic()
    for number, path in enumerate(paths):
        if path.exists() or not _claim(claims / str(number)):
            continue
        start = number * ROWS_PER_STRETCH
        write_tokens(path, maker.make(start, min(start + ROWS_PER_STRETCH, len(maker.rows))))
        if told is not None and time.monotonic() - last > _SECONDS_BETWEEN:  # looking for all files takes time
            last = time.monotonic()
            told(sum(other.exists() for other in paths) * ROWS_PER_STRETCH, len(maker.rows))


def work_on_all(job: Path) -> None:
    """What the process of `make_beside` does: all samples, with workers of its own."""
    with job.open("rb") as file:  # a pickle of ours, that only this user may read and replace
        maker = pickle.load(file)
    assert isinstance(maker, SampleBuilder), "a job is a maker"
    job.unlink()
    samples_of(maker, workers=max(0, _worker_count(len(maker.rows)) - 1))


@contextmanager
def entry_of(kind: str, identity: str) -> Iterator[Path]:
    """The folder of an entry; one for this time only where the cache cannot be written."""
    folder = cache_folder() / kind / identity
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if writable or (folder / _JOINED).is_dir():
        yield folder
        return
    # Mapped files stay readable after their names are gone.
    with tempfile.TemporaryDirectory(prefix="burnish-samples-") as place:
        yield Path(place)


def settle(entry: Path) -> None:
    """An entry is whole: others of its kind, unused for the longest time, leave if all are too large together."""
    if entry.parent.parent == cache_folder():  # what is mapped by now stays readable, whoever evicts it
        evict(entry.parent, limit(entry.parent), but=entry)


@contextmanager
def alone(entry: Path) -> Iterator[None]:
    """Two runs on the same data do not make it twice: one waits until the other is done or dead."""
    while True:
        entry.mkdir(parents=True, exist_ok=True)
        with (entry / LOCK).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(file, entry / LOCK):  # else it was evicted while this process waited
                yield
                return


def _is_at(file: IO[str], path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _worker_count(rows: int) -> int:
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(cores - 1, rows // _ROWS_PER_WORKER)


def _make(maker: SampleBuilder, entry: Path, workers: int, told: Callable[[int, int], None] | None) -> None:
    for path in entry.glob(".*-*"):  # left by a process that was killed
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in _paths(maker, entry):
        if path.exists() and read_tokens(path) is None:  # spoilt by a power cut
            path.unlink()
    # Claims live as long as this run: those of a killed one would keep its stretches from being made.
    with tempfile.TemporaryDirectory(prefix=".claims-", dir=entry) as place:
        claims = Path(place)
        started = fork(workers, partial(work, maker, entry, claims))
        try:
            work(maker, entry, claims, told)
            for worker in started:
                worker.wait()
        finally:
            for worker in started:
                worker.stop()
    # A worker that died has left claims without stretches.
    with tempfile.TemporaryDirectory(prefix=".claims-", dir=entry) as place:
        work(maker, entry, Path(place), told)


def _claim(path: Path) -> bool:
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _paths(maker: SampleBuilder, entry: Path) -> list[Path]:
    return [entry / f"stretch-{number:06d}.npz" for number in range(-(-len(maker.rows) // ROWS_PER_STRETCH))]


def _join(maker: SampleBuilder, entry: Path) -> None:
    """Puts the joined folder in its place, and takes the stretches away."""
    parts = _paths(maker, entry)
    place = Path(tempfile.mkdtemp(prefix=".joining-", dir=entry))
    join(parts, place)
    shutil.rmtree(entry / _JOINED, ignore_errors=True)  # a damaged one
    os.rename(place, entry / _JOINED)
    for part in parts:
        part.unlink(missing_ok=True)
