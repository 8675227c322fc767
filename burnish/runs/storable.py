"""Tensors as safetensors takes them: on the CPU, contiguous, no two over the same memory, copied only where needed.

Between `Checkpoint` and the file. Names for one and the same tensor (tied weights, the quantisation maps that all
states of an 8-bit optimiser share) are stored once and come back as one tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

_Memory = tuple[torch.device, int]


@dataclass(frozen=True, eq=False, slots=True)
class Storable:
    """What goes into the file, and what does not have to."""

    tensors: dict[str, Tensor]
    """By name: on the CPU, contiguous, without overlaps in memory."""
    same: dict[str, str]
    """A further name → the name in `tensors` under which the very same tensor is stored."""


def storable(tensors: Mapping[str, Tensor]) -> Storable:
    """Split off repeated names, and copy what overlaps without being the same."""
    stored: dict[str, Tensor] = {}
    same: dict[str, str] = {}
    names: dict[object, str] = {}
    taken: dict[_Memory, list[tuple[int, int]]] = {}
    for name, tensor in tensors.items():
        identity = _identity(tensor)
        if tensor.numel() and identity in names:
            same[name] = names[identity]
        else:
            names[identity] = name
            stored[name] = _apart(tensor.detach().cpu().contiguous(), taken)
    return Storable(stored, same)


def _memory(tensor: Tensor) -> _Memory:
    return tensor.device, tensor.untyped_storage().data_ptr()


def _identity(tensor: Tensor) -> object:
    return _memory(tensor), tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


def _apart(tensor: Tensor, taken: dict[_Memory, list[tuple[int, int]]]) -> Tensor:
    """The tensor, or a copy if an earlier one lies over a part of its memory."""
    if not tensor.numel():
        return tensor
    start, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
    ranges = taken.setdefault(_memory(tensor), [])
    if any(start < other_end and other_start < end for other_start, other_end in ranges):
        return tensor.clone()
    ranges.append((start, end))
    return tensor
