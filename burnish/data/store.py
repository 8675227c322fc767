"""Tokens of samples as flat arrays, in files that are mapped into memory: 5 bytes a token (9 where turns have weights).

Written by `cache` in stretches of rows, each of which appears whole or not at all, and then joined without ever holding
the set in memory. No pickle: numpy's own formats, and JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ARRAYS = {
    "tokens": np.dtype(np.int32),
    "trainable": np.dtype(np.bool_),
    "lengths": np.dtype(np.int64),
    "prompt_lengths": np.dtype(np.int64),
    "rows": np.dtype(np.int64),
    "notes": np.dtype(np.int32),
}
_WEIGHTS = {"weights": np.dtype(np.float32)}
"""Only where a weight is not 1."""
UNENDED, STRADDLING, ORDINARY, SHORTENED, DOCUMENT = range(5)
"""Columns of `Stretch.notes`."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A row that cannot be used, and why."""

    row: int
    given: str
    rule: str
    remedy: str


@dataclass(frozen=True, eq=False, slots=True)
class Stretch:
    """The samples of some consecutive rows, or of all; G samples with T tokens together."""

    tokens: NDArray[np.int32]
    """[T] token ids of all samples, one after the other."""
    trainable: NDArray[np.bool_]
    """[T] what is learned."""
    lengths: NDArray[np.int64]
    """[G] tokens of each sample."""
    prompt_lengths: NDArray[np.int64]
    """[G] tokens before the first learned one."""
    rows: NDArray[np.int64]
    """[G] the row that each comes from, rising."""
    notes: NDArray[np.int32]
    """[G, 5] turns without an end token, turns that begin inside a token, control strings kept as text, whether early
    turns were cut (0 or 1), whether it is a document (0 or 1)."""
    ends: tuple[int, ...]
    """Token ids that end learned turns."""
    faults: tuple[Fault, ...]
    """Rows that cannot be used."""
    conversations: int
    """Rows that the chat template wrote."""
    fingerprint: str = ""
    """sha256 of the arrays; "" for a part of a set."""
    weights: NDArray[np.float32] | None = None
    """[T] how much each learned token counts, > 0; None: 1 everywhere."""


def write_stretch(path: Path, stretch: Stretch) -> None:
    """Writes the file whole or not at all (against a kill; a power cut may spoil it, which reading finds)."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    facts = np.frombuffer(_Facts.of(stretch).packed(), np.uint8)
    arrays = {name: getattr(stretch, name) for name in _kinds(weighted=stretch.weights is not None)}
    with partial.open("wb") as file:
        np.savez(file, facts=facts, **arrays)
    os.replace(partial, path)


def read_stretch(path: Path) -> Stretch | None:
    """None: there is no such file, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            facts = _Facts.unpacked(stored["facts"].tobytes())
            return facts.with_arrays({name: stored[name] for name in _kinds(facts.weighted)})
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def join(parts: Sequence[Path], folder: Path) -> None:
    """Joins the files of consecutive stretches into a folder that `open_joined` opens. One part at a time is read."""
    sizes = [_sizes(path) for path in parts]
    kinds = _kinds(weighted=any(size["weights"] for size in sizes))
    lengths = {name: sum(size["tokens" if name == "weights" else name] for size in sizes) for name in kinds}
    joined = {name: _create(folder, name, lengths[name]) for name in kinds}
    digests = {name: hashlib.sha256() for name in kinds}
    at = dict.fromkeys(kinds, 0)
    ends: set[int] = set()
    faults: list[Fault] = []
    conversations = 0
    for path in parts:
        part = read_stretch(path)
        assert part is not None, f"{path.name} was read before"
        for name in kinds:
            array: NDArray[Any] = _array(part, name)
            joined[name][at[name] : at[name] + len(array)] = array
            at[name] += len(array)
            digests[name].update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        ends |= set(part.ends)
        faults += part.faults
        conversations += part.conversations
    for array in joined.values():
        if isinstance(array, np.memmap):
            array.flush()
    fingerprint = hashlib.sha256("".join(digest.hexdigest() for digest in digests.values()).encode()).hexdigest()
    facts = _Facts(tuple(sorted(ends)), tuple(faults), conversations, fingerprint, weighted="weights" in kinds)
    (folder / "facts.json").write_bytes(facts.packed())


def _kinds(weighted: bool) -> Mapping[str, np.dtype[Any]]:
    """The arrays of a stretch, and their types."""
    return _ARRAYS | _WEIGHTS if weighted else _ARRAYS


def _array(part: Stretch, name: str) -> NDArray[Any]:
    """An array of a part; weights of 1 if it has none."""
    array: NDArray[Any] | None = getattr(part, name)
    return np.ones(len(part.tokens), np.float32) if array is None else array


def _create(folder: Path, name: str, size: int) -> NDArray[Any]:
    """A file for an array. (One without entries cannot be mapped.)"""
    shape = (size, 5) if name == "notes" else (size,)
    path = folder / f"{name}.npy"
    kind = _kinds(weighted=True)[name]
    if not size:
        empty = np.empty(shape, kind)
        np.save(path, empty)
        return empty
    created: NDArray[Any] = np.lib.format.open_memmap(path, "w+", kind, shape)
    return created


def open_joined(folder: Path) -> Stretch | None:
    """All samples, mapped from the disk; None: there is no such folder, or it is damaged."""
    try:
        facts = _Facts.unpacked((folder / "facts.json").read_bytes())
        files = {name: folder / f"{name}.npy" for name in _kinds(facts.weighted)}
        return facts.with_arrays(
            {name: np.load(file, mmap_mode="r", allow_pickle=False) for name, file in files.items()}
        )
    except (OSError, EOFError, ValueError, KeyError):
        return None


def _sizes(path: Path) -> dict[str, int]:
    with np.load(path, allow_pickle=False) as stored:
        return {name: len(stored[name]) if name in stored else 0 for name in _kinds(weighted=True)}


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a stretch has beside its arrays."""

    ends: tuple[int, ...]
    faults: tuple[Fault, ...]
    conversations: int
    fingerprint: str
    weighted: bool
    """Whether there is an array of weights."""

    @classmethod
    def of(cls, stretch: Stretch) -> _Facts:
        weighted = stretch.weights is not None
        return cls(stretch.ends, stretch.faults, stretch.conversations, stretch.fingerprint, weighted)

    @classmethod
    def unpacked(cls, data: bytes) -> _Facts:
        facts = json.loads(data)
        faults = tuple(Fault(**entry) for entry in facts["faults"])
        return cls(tuple(facts["ends"]), faults, facts["conversations"], facts["fingerprint"], facts["weighted"])

    def packed(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    def with_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Stretch:
        return Stretch(
            **arrays,
            ends=self.ends,
            faults=self.faults,
            conversations=self.conversations,
            fingerprint=self.fingerprint,
        )
