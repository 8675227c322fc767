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
_OPTIONAL = {name: np.dtype(np.float32) for name in ("weights", "worth", "scores", "labels")}
"""Only where a weight is not 1, and where responses are judged: by their worth, by several scores, by steps."""
_MISSING = {"weights": 1.0, "worth": np.nan, "scores": np.nan, "labels": np.nan}
"""What stands for them in a part of the set that has none, where another part has."""
_AXIS = {"weights": "tokens", "worth": "lengths", "scores": "lengths", "labels": "tokens"}
"""Which array an optional one is as long as."""
UNENDED, STRADDLING, ORDINARY, SHORTENED, DOCUMENT, PLACE = range(6)
"""Columns of `TokenStore.notes`."""


@dataclass(frozen=True, slots=True)
class RowError:
    """A row that cannot be used, and why."""

    row: int
    given: str
    rule: str
    remedy: str


@dataclass(frozen=True, eq=False, slots=True)
class TokenStore:
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
    """[G, 6] turns without an end token, turns that begin inside a token, control strings kept as text, whether early
    turns were cut (0 or 1), whether it is a document (0 or 1), place among the responses to one prompt (0: a group
    begins)."""
    ends: tuple[int, ...]
    """Token ids that end learned turns."""
    faults: tuple[RowError, ...]
    """Rows that cannot be used."""
    conversations: int
    """Rows that the chat template wrote."""
    fingerprint: str = ""
    """sha256 of the arrays; "" for a part of a set."""
    weights: NDArray[np.float32] | None = None
    """[T] how much each learned token counts, > 0; None: 1 everywhere."""
    worth: NDArray[np.float32] | None = None
    """[G] how good each response is; NaN: it is not judged; None: none is."""
    scores: NDArray[np.float32] | None = None
    """[G, K] the scores of each response; None: none has any."""
    labels: NDArray[np.float32] | None = None
    """[T] how good the step is that ends at a token; NaN: none ends there; None: no response is judged by steps."""


def write_tokens(path: Path, stretch: TokenStore) -> None:
    """Writes the file whole or not at all (against a kill; a power cut may spoil it, which reading finds)."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    facts = np.frombuffer(_Facts.of(stretch).packed(), np.uint8)
    arrays = {name: getattr(stretch, name) for name in _kinds(_present(stretch))}
    with partial.open("wb") as file:
        np.savez(file, facts=facts, **arrays)
    os.replace(partial, path)


def read_tokens(path: Path) -> TokenStore | None:
    """None: there is no such file, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            facts = _Facts.unpacked(stored["facts"].tobytes())
            return facts.with_arrays({name: stored[name] for name in _kinds(facts.optional)})
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def join(parts: Sequence[Path], folder: Path) -> None:
    """Joins the files of consecutive stretches into a folder that `open_joined` opens. One part at a time is read."""
    shapes = [_shapes(path) for path in parts]
    optional = tuple(name for name in _OPTIONAL if any(shape[name][0] for shape in shapes))
    kinds = _kinds(optional)
    # How many numbers an entry has, a part without entries does not know.
    entries = {name: max(shape[name][1:] for shape in shapes) for name in kinds}
    lengths = {name: sum(shape[_AXIS.get(name, name)][0] for shape in shapes) for name in kinds}
    joined = {name: _create(folder, name, (lengths[name], *entries[name])) for name in kinds}
    digests = {name: hashlib.sha256() for name in kinds}
    at = dict.fromkeys(kinds, 0)
    ends: set[int] = set()
    faults: list[RowError] = []
    conversations = 0
    for path in parts:
        part = read_tokens(path)
        assert part is not None, f"{path.name} was read before"
        for name in kinds:
            array: NDArray[Any] = _array(part, name, entries[name])
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
    facts = _Facts(tuple(sorted(ends)), tuple(faults), conversations, fingerprint, optional)
    (folder / "facts.json").write_bytes(facts.packed())


def _present(stretch: TokenStore) -> tuple[str, ...]:
    """The optional arrays that it has."""
    return tuple(name for name in _OPTIONAL if getattr(stretch, name) is not None)


def _kinds(optional: Sequence[str]) -> Mapping[str, np.dtype[Any]]:
    """The arrays of a stretch that has these optional ones, and their types."""
    return _ARRAYS | {name: _OPTIONAL[name] for name in optional}


def _array(part: TokenStore, name: str, entry: tuple[int, ...]) -> NDArray[Any]:
    """An array of a part, filled with what stands for it if it has none; `entry` is the shape of one of its entries."""
    array: NDArray[Any] | None = getattr(part, name)
    if array is not None:
        return array
    return np.full((len(getattr(part, _AXIS[name])), *entry), _MISSING[name], _OPTIONAL[name])


def _create(folder: Path, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """A file for an array. (One without entries cannot be mapped.)"""
    path = folder / f"{name}.npy"
    kind = _kinds(tuple(_OPTIONAL))[name]
    if not shape[0]:
        empty = np.empty(shape, kind)
        np.save(path, empty)
        return empty
    created: NDArray[Any] = np.lib.format.open_memmap(path, "w+", kind, shape)
    return created


def open_joined(folder: Path) -> TokenStore | None:
    """All samples, mapped from the disk; None: there is no such folder, or it is damaged."""
    try:
        facts = _Facts.unpacked((folder / "facts.json").read_bytes())
        files = {name: folder / f"{name}.npy" for name in _kinds(facts.optional)}
        return facts.with_arrays(
            {name: np.load(file, mmap_mode="r", allow_pickle=False) for name, file in files.items()}
        )
    except (OSError, EOFError, ValueError, KeyError):
        return None


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Of each array; (0,) for one that is not there."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name].shape if name in stored else (0,) for name in _kinds(tuple(_OPTIONAL))}


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a stretch has beside its arrays."""

    ends: tuple[int, ...]
    faults: tuple[RowError, ...]
    conversations: int
    fingerprint: str
    optional: tuple[str, ...]
    """The optional arrays that it has."""

    @classmethod
    def of(cls, stretch: TokenStore) -> _Facts:
        return cls(stretch.ends, stretch.faults, stretch.conversations, stretch.fingerprint, _present(stretch))

    @classmethod
    def unpacked(cls, data: bytes) -> _Facts:
        facts = json.loads(data)
        faults = tuple(RowError(**entry) for entry in facts["faults"])
        optional = tuple(facts["optional"])
        return cls(tuple(facts["ends"]), faults, facts["conversations"], facts["fingerprint"], optional)

    def packed(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    def with_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> TokenStore:
        return TokenStore(
            **arrays,
            ends=self.ends,
            faults=self.faults,
            conversations=self.conversations,
            fingerprint=self.fingerprint,
        )
