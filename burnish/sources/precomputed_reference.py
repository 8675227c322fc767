"""The reference's log-probabilities, computed once: kept in memory, or on the disk for later epochs and runs.

Beside `annotate`, under the recipe. Computed before the first step, by the policy that is about to be trained, so no
second set of weights is held. A block of rows is packed together, and which rows are a block depends on the rows alone:
whether a value was kept or has just been computed leaves no trace in its bits, and so none in the training.
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

from burnish.data.cache import alone, entry_of, settle
from burnish.data.eviction import mark_used
from burnish.model.fingerprint import whole_fingerprint
from burnish.model.policy import Model
from burnish.sources.annotate import BLOCK, Logprobs, annotated, logprobs
from burnish.sources.rows import Validates
from burnish.types import Group

KIND = "references"
"""Of an entry of the cache."""
BUDGET = 4096
"""Tokens of a microbatch of the reference; fixed, since the last bit of a value may depend on it."""
PROBED = 8
"""Rows that are computed again before kept values are used."""
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 0.3}
"""Most nats by which one of them may differ: another machine rounds otherwise, another model differs by far more."""

Rows = Sequence[Sequence[Group]]
"""The groups of each row."""
Told = Callable[[int, int], None]
"""Called with the rows done and all rows."""


@dataclass(frozen=True, eq=False, slots=True)
class Values:
    """Log-probabilities of the trained tokens of all rows, one after the other."""

    starts: NDArray[np.int64]
    """[rows + 1] where each row begins."""
    logprobs: NDArray[Any]
    """[T] float32 nats (float64 of a float64 model); in memory, or mapped."""

    def of(self, row: int, groups: Sequence[Group]) -> Logprobs:
        """Those of a row, for each group and response."""
        flat = torch.from_numpy(np.array(self.logprobs[self.starts[row] : self.starts[row + 1]]))
        sizes = [int(response.trainable.sum()) for group in groups for response in group.responses]
        assert sum(sizes) == len(flat), "values are of the rows that they were computed for"
        parts = iter(flat.split(sizes))
        return [[next(parts) for _ in group.responses] for group in groups]


class ReferenceRows(Sequence[Sequence[Group]]):
    """Rows, annotated with values that are known."""

    def __init__(self, rows: Rows, values: Values) -> None:
        self.rows, self.values = rows, values

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Sequence[Group]:  # type: ignore[override]  # drawn singly
        groups = self.rows[row]
        return annotated(groups, self.values.of(row, groups))

    def settle(self) -> None:
        """See `Source.settle`."""
        if isinstance(self.rows, Validates):
            self.rows.settle()


def identity(policy: Model, data: str) -> str:
    """sha256 of all that decides the values: weights, rows, libraries, kind of device.

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


def computed(policy: Model, rows: Rows, told: Told | None = None) -> Values:
    """The values of all rows, in memory."""
    blocks = [_block(policy, rows, start, BLOCK) for start in _starts(rows, told)]
    return _joined(blocks)


def stored(policy: Model, rows: Rows, name: str, told: Told | None = None) -> tuple[Values, str]:
    """The values of all rows, from the cache's entry of this name, or computed and kept there.

    A process that is killed leaves its blocks to the next.

    Returns:
        The values, and in words where they come from.
    """
    with entry_of(KIND, name) as entry, alone(entry):
        if (kept := _opened(entry)) is not None:
            difference = _probe(policy, rows, kept)
            if difference <= TOLERANCE[_accumulated(policy)]:
                mark_used(entry)
                return kept, f"the reference is known from an earlier run (a probe differs by {difference:.1e} nats)"
            _forget(entry)
        for start in _starts(rows, told):
            path = entry / f"block-{start:09d}.npz"
            if _read(path) is None:
                _write(path, _block(policy, rows, start, BLOCK))
        blocks = [_read(entry / f"block-{start:09d}.npz") for start in range(0, len(rows), BLOCK)]
        _keep(entry, _joined([block for block in blocks if block is not None]))
        found = _opened(entry)
        assert found is not None, "what was just written can be opened"
        settle(entry)
    again = "" if kept is None else ", since what was kept is not what this model gives"
    return found, f"the reference is computed once, and kept for later runs{again}"


_Block = tuple[NDArray[np.int64], NDArray[Any]]
"""Trained tokens of each row, and their log-probabilities one after the other."""


def _starts(rows: Rows, told: Told | None) -> Iterator[int]:
    for start in range(0, len(rows), BLOCK):
        yield start
        if told is not None:
            told(min(start + BLOCK, len(rows)), len(rows))


def _block(policy: Model, rows: Rows, start: int, size: int) -> _Block:
    taken = [rows[row] for row in range(start, min(start + size, len(rows)))]
    values = iter(logprobs(policy, [group for groups in taken for group in groups], BUDGET))
    flat = [[part for _ in groups for part in next(values)] for groups in taken]
    sizes = np.array([sum(len(part) for part in parts) for parts in flat], np.int64)
    every = [part.numpy() for parts in flat for part in parts]
    return sizes, np.concatenate(every) if every else np.empty(0, np.float32)


def _joined(blocks: Sequence[_Block]) -> Values:
    sizes = np.concatenate([np.zeros(1, np.int64), *(sizes for sizes, _ in blocks)])
    return Values(np.cumsum(sizes), np.concatenate([flat for _, flat in blocks]))


def _probe(policy: Model, rows: Rows, kept: Values) -> float:
    """The largest difference between kept values and those of the first rows, computed now; infinite: other rows."""
    if len(kept.starts) != len(rows) + 1:
        return float("inf")
    sizes, flat = _block(policy, rows, 0, PROBED)
    if not np.array_equal(np.cumsum(sizes), kept.starts[1 : len(sizes) + 1]):
        return float("inf")
    return float(np.abs(flat - kept.logprobs[: len(flat)]).max(initial=0.0))


def _accumulated(policy: Model) -> torch.dtype:
    dtype = policy.causal_lm.dtype
    return dtype if dtype in TOLERANCE else torch.bfloat16


def _write(path: Path, block: _Block) -> None:
    """Whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("wb") as file:
        np.savez(file, sizes=block[0], logprobs=block[1])
    os.replace(partial, path)


def _read(path: Path) -> _Block | None:
    """None: there is no such file, or a power cut spoilt it."""
    try:
        with np.load(path, allow_pickle=False) as found:
            return found["sizes"], found["logprobs"]
    except (OSError, EOFError, ValueError, KeyError):
        return None


def _keep(entry: Path, values: Values) -> None:
    """Writes what `_opened` opens, then takes the blocks away."""
    np.save(entry / "logprobs.npy", values.logprobs)
    np.save(entry / "starts.npy", values.starts)
    digest = hashlib.sha256(values.logprobs.tobytes()).hexdigest()
    partial = entry / f".facts.{os.getpid()}"
    partial.write_text(json.dumps({"logprobs": digest}))
    os.replace(partial, entry / "facts.json")
    for path in entry.glob("block-*.npz"):
        path.unlink()


def _opened(entry: Path) -> Values | None:
    """None: there is nothing, or it is damaged."""
    try:
        digest = json.loads((entry / "facts.json").read_text())["logprobs"]
        kept = np.load(entry / "logprobs.npy", mmap_mode="r", allow_pickle=False)
        starts = np.load(entry / "starts.npy", allow_pickle=False)
    except (OSError, EOFError, ValueError, KeyError):
        return None
    return Values(starts, kept) if hashlib.sha256(kept.tobytes()).hexdigest() == digest else None


def _forget(entry: Path) -> None:
    for name in ("facts.json", "logprobs.npy", "starts.npy"):
        (entry / name).unlink(missing_ok=True)
    for path in entry.glob("block-*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
