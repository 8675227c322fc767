"""Sample cache: tokenized samples on disk, keyed by the hash of all their inputs, and resumable after a kill.

Between `sample_builder` (rows to samples) and `dataset` (samples to groups). An entry is a folder. Rows are built in
chunks, each a file that is written atomically by the process that claims it: this one or a worker. Processes share only
the entry's folder, so the chunks of a killed run are reused, and the number of workers does not change the result.
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
from burnish.data.processes import Process, fork, start_background
from burnish.data.sample_builder import SampleBuilder
from burnish.data.token_store import TokenStore, join, open_joined, read_tokens, write_tokens
from burnish.local_path import cache_folder

SAMPLES = "samples"
"""Kind of the entries of this module."""
ROWS_PER_CHUNK = 1024
_ROWS_PER_WORKER = 4096
"""Minimum rows per worker: with fewer, the token cache of a worker is nearly empty."""
_SECONDS_PER_REPORT = 1.0
"""Interval of the progress callback; also within a chunk."""
_NICE = 5
"""Priority of a background process during training: on a machine without free cores it gets a quarter of one."""
_JOINED = "samples"


def samples_of(
    builder: SampleBuilder, workers: int | None = None, told: Callable[[int, int], None] | None = None
) -> TokenStore:
    """Returns the samples of all rows from the cache; builds and stores them first if they are not there.

    Args:
        workers: worker processes in addition to this one; None: one for each other core, if there are enough rows.
        told: progress callback, called with the number of rows done and of all rows.
    """
    with cache_entry(SAMPLES, builder.identity) as entry:
        if (store := open_joined(entry / _JOINED)) is not None:
            mark_used(entry)
            return store
        count = _worker_count(len(builder.rows)) if workers is None else workers
        with entry_lock(entry):
            if (store := open_joined(entry / _JOINED)) is not None:  # another run has built it meanwhile
                return store
            _build(builder, entry, count, told)
            _join(builder, entry)
            store = open_joined(entry / _JOINED)
        assert store is not None, "a joined entry can be opened"
        finish_entry(entry)
        return store


def cached_samples(builder: SampleBuilder) -> TokenStore | None:
    """Returns the samples of all rows from the cache; None: they are missing or incomplete."""
    return open_joined(cache_folder() / SAMPLES / builder.identity / _JOINED)


def build_in_background(builder: SampleBuilder) -> Process | None:
    """Starts a process of lower priority that builds the samples into the cache.

    Returns:
        The process; None: the cache is not writable, so its samples would be lost.
    """
    with cache_entry(SAMPLES, builder.identity) as entry:
        if entry.parent != cache_folder() / SAMPLES:
            return None
    with tempfile.NamedTemporaryFile(prefix="burnish-job-", delete=False) as file:
        pickle.dump(builder, file)
    return start_background(Path(file.name), nice=_NICE)


def build_chunks(
    builder: SampleBuilder, entry: Path, claims: Path, told: Callable[[int, int], None] | None = None
) -> None:
    """Builds every chunk that is neither stored nor claimed by another process."""
    paths, last = _chunk_paths(builder, entry), time.monotonic()

    def count(rows: int) -> None:
        """Reports the rows of this chunk and of all files, if it is time to."""
        nonlocal last
        if told is not None and time.monotonic() - last > _SECONDS_PER_REPORT:  # looking for the files takes time
            last = time.monotonic()
            told(rows + sum(other.exists() for other in paths) * ROWS_PER_CHUNK, len(builder.rows))

    for number, path in enumerate(paths):
        if path.exists() or not _claim(claims / str(number)):
            continue
        start = number * ROWS_PER_CHUNK
        write_tokens(path, builder.make(start, min(start + ROWS_PER_CHUNK, len(builder.rows)), count))
        count(0)


def build_all(job: Path) -> None:
    """Builds all samples with worker processes: the task of the process of `build_in_background`."""
    with job.open("rb") as file:  # our own pickle, which only this user can read and replace
        builder = pickle.load(file)
    assert isinstance(builder, SampleBuilder), "a job is a sample builder"
    job.unlink()
    samples_of(builder, workers=max(0, _worker_count(len(builder.rows)) - 1))


@contextmanager
def cache_entry(kind: str, identity: str) -> Iterator[Path]:
    """Context manager of the folder of an entry; a temporary folder if the cache is not writable."""
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
    with tempfile.TemporaryDirectory(prefix="burnish-samples-") as folder_name:
        yield Path(folder_name)


def finish_entry(entry: Path) -> None:
    """Evicts the least recently used entries of the same kind beyond the size limit, after an entry was completed."""
    if entry.parent.parent == cache_folder():  # mapped files stay readable after an eviction
        evict(entry.parent, limit(entry.parent), but=entry)


@contextmanager
def entry_lock(entry: Path) -> Iterator[None]:
    """Context manager of the lock of an entry: a second run waits until the first is done or dead."""
    while True:
        entry.mkdir(parents=True, exist_ok=True)
        with (entry / LOCK).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_same_file(file, entry / LOCK):  # else it was evicted while this process waited
                yield
                return


def _is_same_file(file: IO[str], path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _worker_count(rows: int) -> int:
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(cores - 1, rows // _ROWS_PER_WORKER)


def _build(builder: SampleBuilder, entry: Path, workers: int, told: Callable[[int, int], None] | None) -> None:
    for path in entry.glob(".*-*"):  # left by a killed process
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in _chunk_paths(builder, entry):
        if path.exists() and read_tokens(path) is None:  # damaged by a power cut
            path.unlink()
    # Claims live as long as this run: claims of a killed run would block its chunks.
    with tempfile.TemporaryDirectory(prefix=".claims-", dir=entry) as claims_name:
        claims = Path(claims_name)
        forked = fork(workers, partial(build_chunks, builder, entry, claims))
        try:
            build_chunks(builder, entry, claims, told)
            for worker in forked:
                worker.wait()
        finally:
            for worker in forked:
                worker.stop()
    # A worker that died leaves claims without chunks.
    with tempfile.TemporaryDirectory(prefix=".claims-", dir=entry) as claims_name:
        build_chunks(builder, entry, Path(claims_name), told)


def _claim(path: Path) -> bool:
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _chunk_paths(builder: SampleBuilder, entry: Path) -> list[Path]:
    return [entry / f"stretch-{number:06d}.npz" for number in range(-(-len(builder.rows) // ROWS_PER_CHUNK))]


def _join(builder: SampleBuilder, entry: Path) -> None:
    """Joins the chunks into one folder, and deletes them."""
    parts = _chunk_paths(builder, entry)
    joined = Path(tempfile.mkdtemp(prefix=".joining-", dir=entry))
    join(parts, joined)
    shutil.rmtree(entry / _JOINED, ignore_errors=True)  # a damaged one
    os.rename(joined, entry / _JOINED)
    for part in parts:
        part.unlink(missing_ok=True)
