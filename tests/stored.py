"""States as they come back from a checkpoint, and groups as plain data that can be compared."""

from __future__ import annotations

import json
from typing import Any

from torch import Tensor

from burnish.rollouts.serialization import group_tensors
from burnish.sources.base import State
from burnish.types import Group


def saved(state: State) -> State:
    """A state after a checkpoint: other tensors with the same numbers, values that were JSON."""
    tensors, values = state
    return {name: tensor.clone() for name, tensor in tensors.items()}, json.loads(json.dumps(values))


def plain(group: Group) -> dict[str, Any]:
    """All of a group as lists and numbers; equal for equal bits (nan aside)."""
    tensors, values = group_tensors(group)
    return {"values": values, **{path: [str(tensor.dtype), _numbers(tensor)] for path, tensor in tensors.items()}}


def _numbers(tensor: Tensor) -> list[Any]:
    numbers: list[Any] = tensor.tolist()
    return numbers
