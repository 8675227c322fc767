"""Checkpoint: the state for exact resume, in a folder that is written whole or not at all.

Written by the loop after a step, read once when a run resumes. Tensors are in safetensors, everything else in JSON;
nothing is pickled. ``manifest.json`` has size and sha256 of the other files. A checkpoint gets its name only after its
files have been read back and compared byte for byte with memory::

    checkpoints/step-40/  tensors.safetensors · values.json · manifest.json · pieces/

Of weights that several processes have together, each writes its pieces (`pieces`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from burnish.errors import RunError
from burnish.parallel.world import ONE_PROCESS, World
from burnish.run_files import CHECKPOINTS
from burnish.runs.disk import full_disk_explained
from burnish.runs.durable import discard, hidden, publish, remove, repair, share_files, sync_folder
from burnish.runs.json_value import JSON, exact_text
from burnish.runs.pieces import Piece, StoredPieces, write_pieces
from burnish.runs.storable import Storable, storable

_FORMAT = 2
_TENSORS, _VALUES, _MANIFEST = "tensors.safetensors", "values.json", "manifest.json"
_PIECES = "pieces"
_HEADROOM = 1 << 16
# The second form is complete too: the run was killed while it replaced an older checkpoint of the same step.
_NAME = re.compile(r"step-(?P<step>\d+)|\.step-(?P<waiting>\d+)\.new")


@dataclass(frozen=True, eq=False, slots=True)
class Checkpoint:
    """State of a run between two optimizer steps.

    Example: ``Checkpoint(step=40, tensors={"roles/policy/weights/w": w}, values={"source": {"position": 812}})``.
    """

    step: int
    """Optimizer steps done, >= 0."""
    tensors: Mapping[str, Tensor]
    """Tensors by name, of any shape (also 0-dim and empty), strided, of a dtype that safetensors has, on any device.
    After loading they are on the CPU; names that shared one tensor share it again."""
    values: Mapping[str, Any]
    """Further JSON values, with string keys; floats come back bit for bit, tuples as lists."""
    pieces: Mapping[str, Piece] = field(default_factory=dict)
    """Tensors by name of which this process has a part, to be written; none after loading."""
    stored: StoredPieces | None = None
    """After loading: the tensors of which processes wrote pieces; None: there are none."""

    @property
    def names(self) -> list[str]:
        """Names of all tensors of a loaded checkpoint."""
        return [*self.tensors, *(() if self.stored is None else self.stored.names)]

    def tensor(self, name: str, piece: Piece | None = None) -> Tensor:
        """A tensor of a loaded checkpoint, or the part of it that this process has.

        Args:
            name: its name.
            piece: the part, with a tensor of its shape; None: the whole tensor. A tensor of another shape than the
                whole one, such as a counter, is given as it is.
        """
        if (whole := self.tensors.get(name)) is not None:
            cut = piece is not None and list(whole.shape) == piece.part.whole_shape(piece.own.shape)
            return piece.part.own(whole).clone() if cut and piece is not None else whole
        assert self.stored is not None, f"the checkpoint has no tensor {name}"
        return self.stored.whole(name) if piece is None else self.stored.own(name, piece.part, piece.own)


@dataclass(frozen=True, slots=True)
class LatestCheckpoint:
    """Newest usable checkpoint of a run."""

    path: Path | None
    """The newest complete checkpoint, all hashes verified; None: the run has none yet."""
    damaged: tuple[str, ...]
    """One warning for each newer damaged checkpoint, with the file that fails."""


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int | None, world: World = ONE_PROCESS) -> Path:
    """Writes ``checkpoints/step-N`` into a run folder, then deletes older ones beyond the newest `keep` (None: none).

    Needs disk space for one checkpoint more than `keep`. On a full disk it raises RunError and changes nothing.
    Several processes call it together, each with its pieces; the main one writes everything else.
    """
    assert checkpoint.step >= 0, f"steps are counted from 0, got {checkpoint.step}"
    assert keep is None or keep >= 1, f"at least the checkpoint just written is kept, got keep={keep}"
    final = checkpoint_path(folder, checkpoint.step)
    parent = final.parent
    partial = hidden(final, "partial")
    if not world.is_main:
        _write_pieces(partial, checkpoint, world)
        return final
    stored = storable(checkpoint.tensors)
    text = exact_text({"step": checkpoint.step, "values": checkpoint.values, "same": stored.same})
    needed = sum(tensor.nbytes for tensor in stored.tensors.values()) + len(text) + _HEADROOM
    with full_disk_explained(folder, f"the checkpoint of step {checkpoint.step}", _disk_rule(parent), needed):
        if not parent.exists():
            parent.mkdir()
            sync_folder(folder)
        repair(parent)
        try:
            partial.mkdir()
            _write_pieces(partial, checkpoint, world)
            _write(partial, stored, text)
            publish(partial, final)
        finally:
            remove(partial)
    _retain(parent, checkpoint.step, keep)
    return final


def _write_pieces(partial: Path, checkpoint: Checkpoint, world: World) -> None:
    """Writes the pieces of this process, after the main one has made the folder."""
    if any(world.gather(bool(checkpoint.pieces))):
        write_pieces(partial / _PIECES, checkpoint.pieces, world)


def checkpoint_path(folder: Path, step: int) -> Path:
    """Folder of the checkpoint of a step."""
    return folder / CHECKPOINTS / f"step-{step}"


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run folder, the newest first, damaged ones included."""
    return _newest_first(folder / CHECKPOINTS)


def latest_checkpoint(folder: Path) -> LatestCheckpoint:
    """The newest checkpoint of a run folder that verifies. Raises RunError if there are some and none verifies."""
    damaged: list[str] = []
    for path in checkpoints(folder):
        fault = _fault(path)
        if fault is None:
            return LatestCheckpoint(path, tuple(damaged))
        damaged.append(f"{path} is damaged and was skipped: {fault}")
    if damaged:
        raise _refusal("\n    ".join(damaged), folder / CHECKPOINTS)
    return LatestCheckpoint(None, ())


def has_checkpoints(folder: Path) -> bool:
    """Whether a run folder has any checkpoint, damaged or not."""
    return bool(checkpoints(folder))


def load_checkpoint(path: Path, *, verified: bool = False) -> Checkpoint:
    """Reads a checkpoint, all tensors on the CPU. Raises RunError with the file that fails if it is damaged.

    `verified`: the path comes from `latest_checkpoint`, so its files are not hashed again.
    """
    fault = None if verified else _fault(path)
    if fault is not None:
        raise _refusal(f"{path} is damaged: {fault}", path)
    record = json.loads((path / _VALUES).read_text(encoding="utf-8"))
    # Read, not memory-mapped: a mapped tensor would be read later, when retention has deleted the file.
    tensors = load_file(path / _TENSORS, backend="pread")
    tensors |= {name: tensors[original] for name, original in record["same"].items()}
    pieces = StoredPieces(path / _PIECES) if (path / _PIECES).is_dir() else None
    return Checkpoint(record["step"], tensors, record["values"], stored=pieces)


def _write(partial: Path, stored: Storable, text: str) -> None:
    save_file(stored.tensors, partial / _TENSORS)
    _compare(partial / _TENSORS, stored.tensors)
    (partial / _VALUES).write_text(text, encoding="utf-8")
    pieces = sorted(f"{_PIECES}/{path.name}" for path in (partial / _PIECES).glob("*"))
    files = {name: _measure(partial / name) for name in (_TENSORS, _VALUES, *pieces)}
    expected = hashlib.sha256(text.encode()).hexdigest()
    if files[_VALUES]["sha256"] != expected:
        raise _misread(partial / _VALUES)
    (partial / _MANIFEST).write_text(exact_text({"format": _FORMAT, "files": files}), encoding="utf-8")
    share_files(partial)


def _compare(path: Path, tensors: Mapping[str, Tensor]) -> None:
    with safe_open(path, framework="pt", backend="pread") as file:
        for name, tensor in tensors.items():
            if not torch.equal(_bytes(file.get_tensor(name)), _bytes(tensor)):
                raise _misread(path)


def _bytes(tensor: Tensor) -> Tensor:
    """The bytes of a tensor, since NaN is not equal to NaN."""
    return tensor.reshape(-1).view(torch.uint8)


def _measure(path: Path) -> dict[str, JSON]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _fault(path: Path) -> str | None:
    """The fault of a checkpoint; None: it is complete, and every file has its hash in the manifest."""
    try:
        files = _manifest(path)
        for name in dict.fromkeys((_TENSORS, _VALUES, *files)):
            fault = _file_fault(path / name, files[name])
            if fault is not None:
                return fault
    except OSError as error:
        return f"{error.filename or path} cannot be read ({error.strerror})"
    except (ValueError, KeyError, TypeError) as error:
        return f"{_MANIFEST} cannot be understood ({error})"
    return None


def _file_fault(path: Path, expected: Mapping[str, JSON]) -> str | None:
    actual = _measure(path)
    if expected == actual:
        return None
    if expected["bytes"] != actual["bytes"]:
        return f"{path.name} has {actual['bytes']} bytes instead of {expected['bytes']}"
    return f"{path.name} does not have the content that was written (sha256 differs)"


def _manifest(path: Path) -> Mapping[str, Mapping[str, JSON]]:
    """Size and sha256 by file name. A damaged manifest raises ValueError, KeyError or TypeError, here or in the
    caller."""
    manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
    if manifest["format"] != _FORMAT:
        raise ValueError(f"format {manifest['format']}, this version reads {_FORMAT}")
    files: Mapping[str, Mapping[str, JSON]] = manifest["files"]
    return files


def _newest_first(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    paths = [path for path in parent.iterdir() if _NAME.fullmatch(path.name)]
    # For one step, the new one first, then the one that it was about to replace.
    return sorted(paths, key=lambda path: (_step(path), path.name.startswith(".")), reverse=True)


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match, f"a checkpoint's name has its step, got {path.name}"
    return int(match["step"] or match["waiting"])


def _looks_whole(path: Path) -> bool:
    """Whether all files have their sizes. Hashing old checkpoints at each save would cost more than the save."""
    try:
        files = _manifest(path)
        return all((path / name).stat().st_size == entry["bytes"] for name, entry in files.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _retain(parent: Path, step: int, keep: int | None) -> None:
    """Deletes checkpoints older than the newest `keep` complete ones up to `step`.

    Later steps are not deleted: they are damaged, or the run was resumed before them and will write them again.
    """
    if keep is None:
        return
    past = [path for path in _newest_first(parent) if _step(path) <= step]
    whole = [path for path in past if _looks_whole(path)]
    for path in past:
        if path not in whole[:keep]:
            discard(path)


def _disk_rule(parent: Path) -> str:
    rule = "a checkpoint is written whole or not at all, earlier ones are kept"
    newest = next((path for path in _newest_first(parent) if _looks_whole(path)), None)
    return f"{rule}; " + ("there is none yet" if newest is None else f"the newest good one is step {_step(newest)}")


def _refusal(given: str, place: Path) -> RunError:
    return RunError(
        given=given,
        rule="a run resumes only from a checkpoint whose every byte is as it was written",
        remedy=f"restore {place} from a copy, or delete it to resume from an earlier checkpoint or from the start",
    )


def _misread(path: Path) -> RunError:
    return RunError(
        given=f"{path} was written, and then read back with another content",
        rule="a checkpoint is valid only if the disk has the same bytes as memory",
        remedy="check this machine's disk and memory for faults, then run the same command again",
    )
