"""Pieces of divided weights in a checkpoint: every process writes its own, by torch.distributed.checkpoint.

The files are safetensors, one for each process that writes; nothing is pickled. They are read in any layout: each
process reads the rows that it has, wherever they are. A weight that is sliced for tensor parallelism is stored as one
tensor for each slice.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from burnish.errors import RunError
from burnish.parallel.part import Part, own_tensor
from burnish.parallel.world import World

_SLICE = re.compile(r"(?P<name>.*)@(?P<dim>\d+)\.(?P<index>\d+)\.(?P<count>\d+)")


@dataclass(frozen=True, eq=False, slots=True)
class Piece:
    """What a process has of a tensor. Example: ``Piece(placement.part(name), weight)``."""

    part: Part
    """Which part it is."""
    own: Tensor
    """Its numbers, in the optimizer's memory."""

    def name(self, name: str) -> str:
        """Name under which this slice of a tensor is stored."""
        split = self.part.split
        return name if split is None else f"{name}@{split.dim}.{split.index}.{split.count}"

    @property
    def stored(self) -> Tensor:
        """The tensor that torch.distributed.checkpoint takes."""
        return self.own if self.part.mesh is None else self.part.sharded(self.own)


def write_pieces(folder: Path, pieces: Mapping[str, Piece], world: World) -> None:
    """Writes the pieces of all processes into an empty folder, and reads each back. Collective.

    Raises:
        RunError: a process could not write, or read other bytes than it wrote; names it.
    """
    tensors = {piece.name(name): piece.stored for name, piece in pieces.items()}
    try:
        save(dict(tensors), storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
        fault = _difference(folder, pieces)
    except CheckpointException as error:
        rank, (cause, _) = min(error.failures.items())
        fault = f"rank {rank} could not write its part of the checkpoint: {type(cause).__name__}: {cause}"
    for rank, found in enumerate(world.gather(fault)):
        if found is not None:
            raise RunError(
                given=found if found.startswith("rank ") else f"rank {rank}: {found}",
                rule="a checkpoint is written whole or not at all, earlier ones are kept",
                remedy="free space or check the disk of that machine; the same command resumes",
            )


def _difference(folder: Path, pieces: Mapping[str, Piece]) -> str | None:
    """What is wrong with the files of the pieces that this process has; None: they are as in memory."""
    reader = StoredPieces(folder)
    for name, piece in pieces.items():
        found = reader.own(name, piece.part, piece.own)
        if not torch.equal(found.reshape(-1).view(torch.uint8), piece.own.cpu().reshape(-1).view(torch.uint8)):
            return f"{folder} was written, and then read back with another content ({name})"
    return None


class StoredPieces:
    """Tensors in a folder of `write_pieces`, read one at a time."""

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: the folder.
        """
        self._folder = folder

    @cached_property
    def _metadata(self) -> Metadata:
        return HuggingFaceStorageReader(str(self._folder)).read_metadata()

    @cached_property
    def names(self) -> Mapping[str, list[str]]:
        """Name → the names of its slices in their order; itself, if it was not sliced."""
        found: dict[str, list[tuple[int, str]]] = {}
        for stored in self._metadata.state_dict_metadata:
            match = _SLICE.fullmatch(stored)
            name, index = (stored, 0) if match is None else (match["name"], int(match["index"]))
            found.setdefault(name, []).append((index, stored))
        return {name: [stored for _, stored in sorted(slices)] for name, slices in found.items()}

    def whole(self, name: str) -> Tensor:
        """The whole tensor."""
        slices = self.names[name]
        match = _SLICE.fullmatch(slices[0])
        tensors = [self._read(stored, torch.empty(self._shape(stored), dtype=self._dtype(stored))) for stored in slices]
        return tensors[0] if match is None else torch.cat(tensors, int(match["dim"]))

    def own(self, name: str, part: Part, like: Tensor) -> Tensor:
        """The part of a tensor that this process has, on the CPU; only it is read if the tensor is sliced as here.

        Args:
            name: name of the tensor.
            part: the part.
            like: a tensor of the part's shape.
        """
        stored = Piece(part, like).name(name)
        if stored not in self._metadata.state_dict_metadata:
            return part.own(self.whole(name)).clone()
        empty = torch.empty(like.shape, dtype=self._dtype(stored))
        into = empty if part.mesh is None else part.sharded(empty)  # on the device of the mesh
        return own_tensor(self._read(stored, into)).cpu()

    def _read(self, stored: str, into: Tensor) -> Tensor:
        if into.numel():
            with warnings.catch_warnings():  # that this process reads by itself is intended
                warnings.simplefilter("ignore", UserWarning)
                load({stored: into}, storage_reader=_Reader(self._folder, self._metadata), no_dist=True)
        return into

    def _shape(self, stored: str) -> torch.Size:
        return self._entry(stored).size

    def _dtype(self, stored: str) -> torch.dtype:
        return self._entry(stored).properties.dtype

    def _entry(self, stored: str) -> TensorStorageMetadata:
        entry: Any = self._metadata.state_dict_metadata[stored]
        assert isinstance(entry, TensorStorageMetadata), "pieces are tensors"
        return entry


class _Reader(HuggingFaceStorageReader):
    """Reader that does not read the headers of all files again for every tensor."""

    def __init__(self, folder: Path, metadata: Metadata) -> None:
        super().__init__(str(folder))
        self._known = metadata

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        return self._known
