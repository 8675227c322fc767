"""Token store: samples as flat arrays in memory-mapped files, 5 bytes a token (9 where turns have weights).

`cache` writes one file for each chunk of rows, atomically, and then joins the files without holding the whole set in
memory. The files have numpy's own formats and JSON, no pickle.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from burnish.types import MediaRef

_ARRAYS = {
    "tokens": np.dtype(np.int32),
    "trainable": np.dtype(np.bool_),
    "lengths": np.dtype(np.int64),
    "prompt_lengths": np.dtype(np.int64),
    "rows": np.dtype(np.int64),
    "notes": np.dtype(np.int32),
}
_OPTIONAL: Mapping[str, np.dtype[Any]] = {
    **{name: np.dtype(np.float32) for name in ("weights", "worth", "scores", "labels")},
    "image_counts": np.dtype(np.int64),
    "images": np.dtype(np.int64),
    "image_files": np.dtype(np.uint8),
}
"""Arrays that a store may lack: weights other than 1, a reward, several scores, or step labels of responses; images."""
_FILL = {"weights": 1.0, "worth": np.nan, "scores": np.nan, "labels": np.nan, "image_counts": 0}
"""Fill values of an optional array for a part of the set that lacks it, where another part has it."""
_SAME_LENGTH_AS = {
    "weights": "tokens",
    "worth": "lengths",
    "scores": "lengths",
    "labels": "tokens",
    "image_counts": "lengths",
}
"""The required array that has the length of an optional one; those of images have their own."""
_DIGEST = 64
"""Characters of a sha256 in hexadecimal."""
UNENDED, STRADDLING, ORDINARY, SHORTENED, DOCUMENT, RESPONSE_INDEX, TEXT_INDEX, SHARED = range(8)
"""Columns of `TokenStore.notes`."""


@dataclass(frozen=True, slots=True)
class RowError:
    """Error of an unusable row."""

    row: int
    given: str
    rule: str
    remedy: str


@dataclass(frozen=True, eq=False)
class TokenStore:
    """Samples of consecutive rows, or of all rows: G samples with T tokens in total."""

    tokens: NDArray[np.int32]
    """[T] token ids of all samples, concatenated."""
    trainable: NDArray[np.bool_]
    """[T] True for learned tokens."""
    lengths: NDArray[np.int64]
    """[G] tokens of each sample."""
    prompt_lengths: NDArray[np.int64]
    """[G] tokens before the first learned one; of compared responses, those of their common prompt."""
    rows: NDArray[np.int64]
    """[G] index of the row of each sample, ascending."""
    notes: NDArray[np.int32]
    """[G, 8] turns without an end token, turns that begin inside a token, control strings kept as text, whether early
    turns were dropped (0 or 1), whether it is a document (0 or 1), index among the responses to one prompt, index among
    the texts of a response (both 0: a group begins), tokens in common with the sample before it in the group."""
    ends: tuple[int, ...]
    """Token ids that end learned turns."""
    faults: tuple[RowError, ...]
    """Unusable rows."""
    conversations: int
    """Number of rows that the chat template rendered."""
    unused_keys: tuple[str, ...] = ()
    """Keys of messages that the template does not read, sorted."""
    remarks: Mapping[str, int] = field(default_factory=dict)
    """What the report says of some rows -> their number. Example: ``{"begin with a message …": 4}``."""
    fingerprint: str = ""
    """sha256 of the arrays; "" for a part of a set."""
    weights: NDArray[np.float32] | None = None
    """[T] weight of each learned token in the loss, > 0; None: 1 everywhere."""
    worth: NDArray[np.float32] | None = None
    """[G] reward of each response; NaN: it has none; None: no response has one. Named as in the files."""
    scores: NDArray[np.float32] | None = None
    """[G, K] scores of each response; None: no response has scores."""
    labels: NDArray[np.float32] | None = None
    """[T] label of the step that ends at a token; NaN: no step ends there; None: no response has labelled steps."""
    image_counts: NDArray[np.int64] | None = None
    """[G] images of each sample; None: no sample has one."""
    images: NDArray[np.int64] | None = None
    """[I, 4] of all images: first token in its sample, the token after its last, patches, bytes in `image_files`."""
    image_files: NDArray[np.uint8] | None = None
    """sha256 and path of each image, as UTF-8 text, concatenated."""

    def media(self, sample: int) -> tuple[MediaRef, ...]:
        """Images of a sample, by its index."""
        if self.image_counts is None or self.images is None or self.image_files is None:
            return ()
        first = int(self._first_images[sample])
        found = []
        for image in range(first, first + int(self.image_counts[sample])):
            begin, end, patches, _ = self.images[image].tolist()
            text = self.image_files[self._file_ends[image] : self._file_ends[image + 1]].tobytes().decode()
            found.append(MediaRef("image", text[_DIGEST:], (begin, end), text[:_DIGEST], patches))
        return tuple(found)

    def digest(self, sample: int, start: int, stop: int) -> bytes:
        """Digest of tokens [start, stop) and of the images among them; they are those of a sample, from its begin."""
        media = [medium for medium in self.media(sample) if medium.span[1] <= stop - start]
        return digest_of(self.tokens[start:stop], media)

    @cached_property
    def _first_images(self) -> NDArray[np.int64]:
        """[G] index of the first image of each sample."""
        assert self.image_counts is not None, "asked for samples with images"
        return np.cumsum(self.image_counts) - self.image_counts

    @cached_property
    def _file_ends(self) -> NDArray[np.int64]:
        """[I + 1] where the text of each image begins, and that of all ends."""
        assert self.images is not None, "asked for samples with images"
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.images[:, 3])])

    @property
    def compared(self) -> bool:
        """Whether groups are responses with rewards, which are used together or not at all."""
        return self.worth is not None

    @property
    def groups(self) -> NDArray[np.int64]:
        """[G] index of the group of each sample."""
        begins = (self.notes[:, RESPONSE_INDEX] == 0) & (self.notes[:, TEXT_INDEX] == 0)
        return np.cumsum(begins) - 1


def digest_of(tokens: NDArray[np.int32] | NDArray[np.int64], media: Sequence[MediaRef]) -> bytes:
    """Digest of tokens and their images; equal ones only for equal tokens and images."""
    found = hashlib.blake2b(tokens.tobytes(), digest_size=16)
    for medium in media:
        found.update(medium.digest.encode())
    return found.digest()


def image_arrays(media: Sequence[Sequence[MediaRef]]) -> dict[str, Any]:
    """The arrays of a store for the images of its samples; {}: there are none."""
    if not any(media):
        return {}
    images = [image for sample in media for image in sample]
    texts = [f"{image.digest}{image.source}".encode() for image in images]
    return {
        "image_counts": np.array([len(sample) for sample in media], np.int64),
        "images": np.array(
            [[*image.span, image.num_patches, len(text)] for image, text in zip(images, texts, strict=True)], np.int64
        ),
        "image_files": np.frombuffer(b"".join(texts), np.uint8),
    }


def write_tokens(path: Path, store: TokenStore) -> None:
    """Writes the file atomically. (A power cut may damage it; `read_tokens` detects that.)"""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    facts = np.frombuffer(_Metadata.of(store).packed(), np.uint8)
    arrays = {name: getattr(store, name) for name in _dtypes(_present(store))}
    with partial.open("wb") as file:
        np.savez(file, facts=facts, **arrays)
    os.replace(partial, path)


def read_tokens(path: Path) -> TokenStore | None:
    """Reads a file of `write_tokens`; None: it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            facts = _Metadata.unpacked(stored["facts"].tobytes())
            return facts.with_arrays({name: stored[name] for name in _dtypes(facts.optional)})
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def join(parts: Sequence[Path], folder: Path) -> None:
    """Joins the files of consecutive chunks into a folder for `open_joined`. Reads one file at a time."""
    shapes = [_shapes(path) for path in parts]
    optional = tuple(name for name in _OPTIONAL if any(shape[name][0] for shape in shapes))
    dtypes = _dtypes(optional)
    # A part without entries does not know the shape of an entry.
    entries = {name: max(shape[name][1:] for shape in shapes) for name in dtypes}
    lengths = {name: sum(shape[_SAME_LENGTH_AS.get(name, name)][0] for shape in shapes) for name in dtypes}
    joined = {name: _create(folder, name, (lengths[name], *entries[name])) for name in dtypes}
    digests = {name: hashlib.sha256() for name in dtypes}
    offsets = dict.fromkeys(dtypes, 0)
    ends: set[int] = set()
    faults: list[RowError] = []
    conversations, unused_keys, remarks = 0, set[str](), Counter[str]()
    for path in parts:
        part = read_tokens(path)
        assert part is not None, f"{path.name} was read before"
        for name in dtypes:
            array: NDArray[Any] = _array(part, name, entries[name])
            joined[name][offsets[name] : offsets[name] + len(array)] = array
            offsets[name] += len(array)
            digests[name].update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        ends |= set(part.ends)
        faults += part.faults
        conversations += part.conversations
        unused_keys |= set(part.unused_keys)
        remarks.update(part.remarks)
    for array in joined.values():
        if isinstance(array, np.memmap):
            array.flush()
    fingerprint = hashlib.sha256("".join(digest.hexdigest() for digest in digests.values()).encode()).hexdigest()
    counted = dict(sorted(remarks.items()))
    facts = _Metadata(
        tuple(sorted(ends)), tuple(faults), conversations, tuple(sorted(unused_keys)), counted, fingerprint, optional
    )
    (folder / "facts.json").write_bytes(facts.packed())


def _present(store: TokenStore) -> tuple[str, ...]:
    """Names of the optional arrays of a store."""
    return tuple(name for name in _OPTIONAL if getattr(store, name) is not None)


def _dtypes(optional: Sequence[str]) -> Mapping[str, np.dtype[Any]]:
    """Types of the arrays of a store with these optional arrays."""
    return _ARRAYS | {name: _OPTIONAL[name] for name in optional}


def _array(part: TokenStore, name: str, entry: tuple[int, ...]) -> NDArray[Any]:
    """Returns an array of a part, or its fill values if the part lacks it; `entry` is the shape of one entry."""
    array: NDArray[Any] | None = getattr(part, name)
    if array is not None:
        return array
    if name not in _SAME_LENGTH_AS:
        return np.empty((0, *entry), _OPTIONAL[name])
    return np.full((len(getattr(part, _SAME_LENGTH_AS[name])), *entry), _FILL[name], _OPTIONAL[name])


def _create(folder: Path, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Creates the file of an array. (An empty array cannot be mapped.)"""
    path = folder / f"{name}.npy"
    dtype = _dtypes(tuple(_OPTIONAL))[name]
    if not shape[0]:
        empty = np.empty(shape, dtype)
        np.save(path, empty)
        return empty
    created: NDArray[Any] = np.lib.format.open_memmap(path, "w+", dtype, shape)
    return created


def open_joined(folder: Path) -> TokenStore | None:
    """Opens all samples as memory-mapped arrays; None: the folder is missing or damaged."""
    try:
        facts = _Metadata.unpacked((folder / "facts.json").read_bytes())
        files = {name: folder / f"{name}.npy" for name in _dtypes(facts.optional)}
        return facts.with_arrays(
            {name: np.load(file, mmap_mode="r", allow_pickle=False) for name, file in files.items()}
        )
    except (OSError, EOFError, ValueError, KeyError):
        return None


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of each array in a file; (0,) for an absent one."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name].shape if name in stored else (0,) for name in _dtypes(tuple(_OPTIONAL))}


@dataclass(frozen=True, slots=True)
class _Metadata:
    """Fields of a store that are not arrays."""

    ends: tuple[int, ...]
    faults: tuple[RowError, ...]
    conversations: int
    unused_keys: tuple[str, ...]
    remarks: Mapping[str, int]
    fingerprint: str
    optional: tuple[str, ...]
    """Names of the optional arrays that the store has."""

    @classmethod
    def of(cls, store: TokenStore) -> _Metadata:
        return cls(
            store.ends,
            store.faults,
            store.conversations,
            store.unused_keys,
            store.remarks,
            store.fingerprint,
            _present(store),
        )

    @classmethod
    def unpacked(cls, data: bytes) -> _Metadata:
        facts = json.loads(data)
        faults = tuple(RowError(**entry) for entry in facts["faults"])
        optional = tuple(facts["optional"])
        unused_keys, remarks = tuple(facts["unused_keys"]), dict(facts["remarks"])
        return cls(
            tuple(facts["ends"]), faults, facts["conversations"], unused_keys, remarks, facts["fingerprint"], optional
        )

    def packed(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    def with_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> TokenStore:
        return TokenStore(
            **arrays,
            ends=self.ends,
            faults=self.faults,
            conversations=self.conversations,
            unused_keys=self.unused_keys,
            remarks=self.remarks,
            fingerprint=self.fingerprint,
        )
