"""Prepares tensors for safetensors: on the CPU, contiguous, without shared memory; copied only if needed.

Between `Checkpoint` and the file. A tensor with several names (tied weights, the quantization maps that all states of
an 8-bit optimizer share) is stored once and comes back as one tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

_Memory = tuple[torch.device, int]


@dataclass(frozen=True, eq=False, slots=True)
class Storable:
    """Tensors to write, and the names of those that have several."""

    tensors: dict[str, Tensor]
    """Tensors by name: on the CPU, contiguous, without overlaps in memory."""
    same: dict[str, str]
    """Further name of a tensor → its name in `tensors`."""


def storable(tensors: Mapping[str, Tensor]) -> Storable:
    """Stores a tensor with several names once, and copies tensors that overlap in memory."""
    stored: dict[str, Tensor] = {}
    same: dict[str, str] = {}
    names: dict[object, str] = {}
    used: dict[_Memory, list[tuple[int, int]]] = {}
    for name, tensor in tensors.items():
        identity = _identity(tensor)
        if tensor.numel() and identity in names:
            same[name] = names[identity]
        else:
            names[identity] = name
            stored[name] = _without_overlap(tensor.detach().cpu().contiguous(), used)
    return Storable(stored, same)


def _memory(tensor: Tensor) -> _Memory:
    return tensor.device, tensor.untyped_storage().data_ptr()


def _identity(tensor: Tensor) -> object:
    return _memory(tensor), tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


def _without_overlap(tensor: Tensor, used: dict[_Memory, list[tuple[int, int]]]) -> Tensor:
    """The tensor, or a copy if an earlier tensor shares a part of its memory."""
    if not tensor.numel():
        return tensor
    start, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
    ranges = used.setdefault(_memory(tensor), [])
    if any(start < other_end and other_start < end for other_start, other_end in ranges):
        return tensor.clone()
    ranges.append((start, end))
    return tensor
