"""Precomputed scores of all rows for a stream, in memory or in the cache for later epochs and runs.

Log-probabilities of the reference are computed before the first step by the policy itself, so no second set of weights
is held. A block of rows is packed together, and blocks depend on the rows alone: cached and newly computed values are
equal bit for bit.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from burnish.data.cache import cache_entry, entry_lock, finish_entry
from burnish.data.eviction import mark_used
from burnish.model.fingerprint import whole_fingerprint
from burnish.model.policy import Model
from burnish.roles.filler import BLOCK, StreamFiller
from burnish.roles.scorer import ResponseScores
from burnish.types import Group

KIND = "references"
"""Kind of the entry in the cache."""
BUDGET = 4096
"""Tokens of a microbatch of the reference; fixed, since the last bit of a value may depend on it."""
PROBED = 8
"""Number of rows that are computed again before cached values are used."""
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 0.3}
"""Largest difference of a probed value, nats: another machine rounds differently, another model differs by far more."""

Rows = Sequence[Sequence[Group]]
"""The groups of each row."""
Progress = Callable[[int, int], None]
"""Called with the number of rows done and of all rows."""


@dataclass(frozen=True, eq=False, slots=True)
class Values:
    """Log-probabilities of the trained tokens of all rows, concatenated."""

    starts: NDArray[np.int64]
    """[rows + 1] start of each row."""
    logprobs: NDArray[Any]
    """[T] float32 nats (float64 for a float64 model); in memory, or memory-mapped."""

    def of(self, row: int, groups: Sequence[Group]) -> ResponseScores:
        """Log-probabilities of a row, per group and response."""
        flat = torch.from_numpy(np.array(self.logprobs[self.starts[row] : self.starts[row + 1]]))
        sizes = [int(response.trainable.sum()) for group in groups for response in group.responses]
        assert sum(sizes) == len(flat), "values belong to the rows for which they were computed"
        parts = iter(flat.split(sizes))
        return [[next(parts) for _ in group.responses] for group in groups]


def identity(policy: Model, data: str) -> str:
    """sha256 of everything that determines the values: weights, rows, libraries, type of device.

    Args:
        policy: the reference.
        data: the identity of the rows: content, tokenizer, template, rules.
    """
    parts = [
        "burnish reference 1",
        whole_fingerprint(policy),
        data,
        policy.device.type,
        str(policy.share),
        str(BLOCK),
        str(BUDGET),
        *(f"{name} {version(name)}" for name in ("torch", "transformers", "peft")),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def computed(filler: StreamFiller, rows: Rows, progress: Progress | None = None) -> Values:
    """Computes the values of all rows, in memory; a filler with the budget `BUDGET` gives the cache's values."""
    blocks = [_block(filler, rows, start, BLOCK) for start in _starts(rows, progress)]
    return _joined(blocks)


def stored(
    filler: StreamFiller, rows: Rows, name: str, dtype: torch.dtype, progress: Progress | None = None
) -> tuple[Values, str]:
    """The values of all rows, from the cache's entry of this name, or computed and stored there.

    The blocks of a process that was killed are used by the next one.

    Args:
        filler: computes the values.
        rows: the groups of each row.
        name: see `identity`.
        dtype: data type of the scoring model, which determines how far cached values may differ from computed ones.
        progress: see `Progress`; None: not called.

    Returns:
        The values, and a sentence about their origin.
    """
    with cache_entry(KIND, name) as entry, entry_lock(entry):
        if (cached := _open(entry)) is not None:
            difference = _probe(filler, rows, cached)
            if difference <= TOLERANCE.get(dtype, TOLERANCE[torch.bfloat16]):
                mark_used(entry)
                return cached, f"the reference is cached from an earlier run (a probe differs by {difference:.1e} nats)"
            _delete(entry)
        for start in _starts(rows, progress):
            path = entry / f"block-{start:09d}.npz"
            if _read(path) is None:
                _write(path, _block(filler, rows, start, BLOCK))
        blocks = [_read(entry / f"block-{start:09d}.npz") for start in range(0, len(rows), BLOCK)]
        _save(entry, _joined([block for block in blocks if block is not None]))
        values = _open(entry)
        assert values is not None, "values that were just written can be read"
        finish_entry(entry)
    again = "" if cached is None else ", since the cached values are not those of this model"
    return values, f"the reference is computed once, and cached for later runs{again}"


_Block = tuple[NDArray[np.int64], NDArray[Any]]
"""Number of trained tokens of each row, and their log-probabilities, concatenated."""


def _starts(rows: Rows, progress: Progress | None) -> Iterator[int]:
    for start in range(0, len(rows), BLOCK):
        yield start
        if progress is not None:
            progress(min(start + BLOCK, len(rows)), len(rows))


def _block(filler: StreamFiller, rows: Rows, start: int, size: int) -> _Block:
    block = [rows[row] for row in range(start, min(start + size, len(rows)))]
    packed = [group for groups in block for group in groups]
    values = iter(filler.scores(packed))
    flat = [[part for _ in groups for part in next(values)] for groups in block]
    sizes = np.array([sum(len(part) for part in parts) for parts in flat], np.int64)
    arrays = [part.numpy() for parts in flat for part in parts]
    return sizes, np.concatenate(arrays) if arrays else np.empty(0, np.float32)


def _joined(blocks: Sequence[_Block]) -> Values:
    sizes = np.concatenate([np.zeros(1, np.int64), *(sizes for sizes, _ in blocks)])
    return Values(np.cumsum(sizes), np.concatenate([flat for _, flat in blocks]))


def _probe(filler: StreamFiller, rows: Rows, cached: Values) -> float:
    """The largest difference between cached values and those of the first rows, computed now; infinite: other rows."""
    if len(cached.starts) != len(rows) + 1:
        return float("inf")
    sizes, flat = _block(filler, rows, 0, PROBED)
    if not np.array_equal(np.cumsum(sizes), cached.starts[1 : len(sizes) + 1]):
        return float("inf")
    return float(np.abs(flat - cached.logprobs[: len(flat)]).max(initial=0.0))


def _write(path: Path, block: _Block) -> None:
    """Writes the block atomically."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("wb") as file:
        np.savez(file, sizes=block[0], logprobs=block[1])
    os.replace(partial, path)


def _read(path: Path) -> _Block | None:
    """Reads a block; None: there is no such file, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["sizes"], arrays["logprobs"]
    except (OSError, EOFError, ValueError, KeyError):
        return None


def _save(entry: Path, values: Values) -> None:
    """Writes the files that `_open` reads, then deletes the blocks."""
    np.save(entry / "logprobs.npy", values.logprobs)
    np.save(entry / "starts.npy", values.starts)
    digest = hashlib.sha256(values.logprobs.tobytes()).hexdigest()
    partial = entry / f".facts.{os.getpid()}"
    partial.write_text(json.dumps({"logprobs": digest}))
    os.replace(partial, entry / "facts.json")
    for path in entry.glob("block-*.npz"):
        path.unlink()


def _open(entry: Path) -> Values | None:
    """Reads the values; None: there are none, or they are damaged."""
    try:
        digest = json.loads((entry / "facts.json").read_text())["logprobs"]
        flat = np.load(entry / "logprobs.npy", mmap_mode="r", allow_pickle=False)
        starts = np.load(entry / "starts.npy", allow_pickle=False)
    except (OSError, EOFError, ValueError, KeyError):
        return None
    return Values(starts, flat) if hashlib.sha256(flat.tobytes()).hexdigest() == digest else None


def _delete(entry: Path) -> None:
    for name in ("facts.json", "logprobs.npy", "starts.npy"):
        (entry / name).unlink(missing_ok=True)
    for path in entry.glob("block-*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
