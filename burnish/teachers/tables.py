"""Tables of a teacher's top-k probabilities of the responses in rows: written once, read in every epoch and run.

Off-policy distillation needs the teacher once. A table has, of every trained token, the teacher's k most probable
tokens and the mass of the others: `tokens.npy` (16 or 32 bits), `logprobs.npy` and `tail.npy` (float16: relative
precision 2^-11), `starts.npy` (first token of each row), and `table.json`, which says what it is a table of. Blocks of
rows are written atomically, so that a killed process loses at most one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from burnish.errors import DataError
from burnish.roles.filler import BLOCK
from burnish.teachers.local import with_streams
from burnish.types import Group

Rows = Sequence[Sequence[Group]]
"""The groups of each row."""
Progress = Callable[[int, int], None]
"""Called with the number of rows done and of all rows."""


class Streaming(Protocol):
    """A teacher that gives its top-k streams."""

    def streams(self, groups: Sequence[Group]) -> list[list[dict[str, Tensor]]]:
        """Per group and response: stream → [trained tokens, …]."""


PROBED = 8
"""Number of rows that are computed again before a table is used."""
TOLERANCE = {torch.float64: 0.01, torch.float32: 0.01, torch.bfloat16: 0.3}
"""Largest difference of a probed log-probability, nats, besides the table's own precision of 2^-10 relative."""
_ARRAYS = ("tokens", "logprobs", "tail")
_FACTS = "table.json"


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What a table is a table of."""

    rows: str
    """sha256 of the token ids of all rows and of which are trained."""
    k: int
    temperature: float
    teacher: str
    """Fingerprint of the teacher with its prompts; "": not known, any table of these rows is taken."""


@dataclass(frozen=True, eq=False, slots=True)
class TopKTable:
    """Top-k probabilities of the trained tokens of all rows, T in all; memory-mapped."""

    starts: NDArray[np.int64]
    """[rows + 1]"""
    tokens: NDArray[Any]
    """[T, K]"""
    logprobs: NDArray[np.float16]
    """[T, K] nats"""
    tail: NDArray[np.float16]
    """[T] nats"""
    sha256: str
    """Of all arrays."""

    def fill(self, row: int, groups: Sequence[Group]) -> list[Group]:
        """The groups of a row with their streams; rounded probabilities are divided by their sum."""
        part = slice(int(self.starts[row]), int(self.starts[row + 1]))
        tokens = torch.from_numpy(self.tokens[part].astype(np.int64))
        buckets = np.concatenate([self.logprobs[part], self.tail[part, None]], axis=1).astype(np.float32)
        logprobs = torch.log_softmax(torch.from_numpy(buckets), dim=1)
        sizes = [int(response.trainable.sum()) for group in groups for response in group.responses]
        assert sum(sizes) == len(tokens), "a table belongs to the rows of which it was made"
        parts = iter(zip(tokens.split(sizes), logprobs[:, :-1].split(sizes), logprobs[:, -1].split(sizes), strict=True))
        return [with_streams(group, [_streams(*next(parts)) for _ in group.responses]) for group in groups]


def identity_of(rows: Rows) -> str:
    """sha256 of the token ids of all rows and of which are trained."""
    digest = hashlib.sha256(b"burnish rows 1")
    for groups in rows:
        for group in groups:
            digest.update(group.prompt.numpy().tobytes() + "".join(m.digest for m in group.media).encode() + b"/")
            for response in group.responses:
                digest.update(response.tokens.numpy().tobytes() + response.trainable.numpy().tobytes() + b"|")
        digest.update(b"\n")
    return digest.hexdigest()


def write_table(
    folder: Path, teacher: Streaming, rows: Rows, facts: TableFacts, progress: Progress | None = None
) -> TopKTable:
    """Computes the table of all rows and writes it; blocks that an earlier process wrote are used.

    The caller holds the lock of the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(rows), BLOCK)
    blocks = []
    for start in starts:
        path = folder / f"block-{_name(facts)}-{start:09d}.npz"
        if (block := _read_block(path)) is None:
            block = _computed(teacher, [rows[row] for row in range(start, min(start + BLOCK, len(rows)))])
            _write_block(path, block)
        blocks.append(block)
        if progress is not None:
            progress(min(start + BLOCK, len(rows)), len(rows))
    whole = {name: np.concatenate([block[name] for block in blocks]) for name in (*_ARRAYS, "sizes")}
    whole["starts"] = np.cumsum(np.concatenate([np.zeros(1, np.int64), whole.pop("sizes")]))
    for name, array in whole.items():
        np.save(folder / f"{name}.npy", array)
    partial = folder / f".{_FACTS}.{os.getpid()}"
    partial.write_text(json.dumps({"format": "burnish top-k 1", **asdict(facts), "sha256": _digest(whole)}, indent=2))
    os.replace(partial, folder / _FACTS)
    for path in folder.glob("block-*.npz"):
        path.unlink()
    table = read_table(folder)
    assert table is not None, "a table that was just written can be read"
    return table[0]


def read_table(folder: Path) -> tuple[TopKTable, TableFacts] | None:
    """The table in a folder; None: there is none, or it is damaged."""
    try:
        given = json.loads((folder / _FACTS).read_text())
        facts = TableFacts(given["rows"], given["k"], given["temperature"], given["teacher"])
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in (*_ARRAYS, "starts")
        }
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None
    if given.get("sha256") != _digest(arrays):
        return None
    table = TopKTable(arrays["starts"], arrays["tokens"], arrays["logprobs"], arrays["tail"], given["sha256"])
    return table, facts


def require_table(folder: Path, wanted: TableFacts) -> TopKTable:
    """The table in a folder of the user's, without a teacher to compare it with.

    Raises:
        DataError: there is none, or it is of other rows, another k or another temperature.
    """
    found = read_table(folder)
    if found is None:
        raise DataError(
            given=f"teacher.tables: {folder}, where no whole table is",
            rule="a table has table.json and the arrays that it names, with their checksum",
            remedy="name the teacher's model too, which writes the table; or copy the folder again",
        )
    table, facts = found
    for name in ("rows", "k", "temperature"):
        if getattr(facts, name) != getattr(wanted, name):
            shown = "other rows" if name == "rows" else f"{name}: {getattr(facts, name)}"
            raise DataError(
                given=f"teacher.tables: {folder}, a table of {shown}",
                rule="a table is of the stage's rows in its tokens, with its top_k and its temperature"
                + ("" if name == "rows" else f" ({getattr(wanted, name)})"),
                remedy="name another folder, or write the table again with the teacher's model",
            )
    return table


def probe(teacher: Streaming, rows: Rows, table: TopKTable, dtype: torch.dtype) -> float:
    """The largest difference of log-probabilities between the table and the teacher on the first rows, less the
    table's own precision; infinite: other tokens are the most probable."""
    first = [rows[row] for row in range(min(PROBED, len(rows)))]
    now = _computed(teacher, first)
    size = len(now["tail"])
    if not first or table.tokens.shape[1:] != now["tokens"].shape[1:] or len(table.tail) < size:
        return 0.0 if not first else float("inf")
    tolerance = TOLERANCE.get(dtype, TOLERANCE[torch.bfloat16])
    places = ((_logprobs(table, place), _row(now, place)) for place in range(size))
    return max((_difference(kept, again, tolerance) for kept, again in places), default=0.0)


def _difference(kept: dict[int, float], again: dict[int, float], tolerance: float) -> float:
    """The largest difference of two lists of most probable tokens; a token that only one has is at its end."""
    worst, least = 0.0, min(kept.values())
    for token, value in again.items():
        rounding = abs(value) * 2**-10
        if token in kept:
            worst = max(worst, abs(kept[token] - value) - rounding)
        elif value > least + tolerance + rounding:
            return float("inf")
    return worst


def _logprobs(table: TopKTable, place: int) -> dict[int, float]:
    return _row({"tokens": table.tokens, "logprobs": table.logprobs}, place)


def _row(arrays: dict[str, NDArray[Any]], place: int) -> dict[int, float]:
    """Token → log-probability, of one position."""
    values = arrays["logprobs"][place].astype(np.float64).tolist()
    return dict(zip(arrays["tokens"][place].tolist(), values, strict=True))


def _computed(teacher: Streaming, rows: Rows) -> dict[str, NDArray[Any]]:
    """Arrays of a block of rows, rounded as they are stored."""
    groups = [group for of_row in rows for group in of_row]
    streams = iter(teacher.streams(groups))
    parts, sizes = [], []
    for of_row in rows:
        own = [part for _ in of_row for part in next(streams)]
        sizes.append(sum(len(part["teacher_tail_logprobs"]) for part in own))
        parts += own
    tokens = torch.cat([part["teacher_topk_tokens"] for part in parts]).numpy()
    small = tokens.max(initial=0) < 2**16
    logprobs = torch.cat([part["teacher_topk_logprobs"] for part in parts]).half().numpy()
    tail = torch.cat([part["teacher_tail_logprobs"] for part in parts]).half().numpy()
    return {
        "tokens": tokens.astype(np.uint16 if small else np.uint32),
        "logprobs": logprobs,
        "tail": tail,
        "sizes": np.array(sizes, np.int64),
    }


def _streams(tokens: Tensor, logprobs: Tensor, tail: Tensor) -> dict[str, Tensor]:
    return {"teacher_topk_tokens": tokens, "teacher_topk_logprobs": logprobs, "teacher_tail_logprobs": tail}


def _name(facts: TableFacts) -> str:
    """Name of the blocks of these facts, so that none of another table is used."""
    return hashlib.sha256(json.dumps(asdict(facts)).encode()).hexdigest()[:16]


def _digest(arrays: dict[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def _write_block(path: Path, block: dict[str, NDArray[Any]]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **block)
    os.replace(partial, path)


def _read_block(path: Path) -> dict[str, NDArray[Any]] | None:
    """A block; None: there is none, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in (*_ARRAYS, "sizes")}
    except (OSError, EOFError, ValueError, KeyError):
        return None
