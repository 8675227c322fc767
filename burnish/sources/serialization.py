"""Serialization of groups to tensors and plain values and back, bit for bit.

One path for every field of the records: a tensor goes to the tensors under its path (``responses/0/advantages``), all
else to the values, which JSON can hold. `store_group` writes both as JSON, for pending rollouts and the replay buffer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from burnish.types import Group, MediaRef, Response

_TYPES = {"int64": torch.int64, "bool": torch.bool, "float32": torch.float32, "float64": torch.float64}

_RECORDS: Mapping[str, type[Response | MediaRef]] = {"responses": Response, "media": MediaRef}
"""Field of a group with a tuple of records → their class."""


def group_tensors(group: Group) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The group as (tensors by path, which are not copied; values that JSON can hold). Fields that are None are
    left out."""
    tensors: dict[str, Tensor] = {}
    return tensors, _take_apart(group, "", tensors)


def group_of(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> Group:
    """The group of which `group_tensors` made tensors and values; values may have been JSON in between."""
    group: Group = _put_together(Group, values, "", tensors)
    return group


def store_group(group: Group) -> dict[str, Any]:
    """The group as JSON values. A float32 is written as the equal float64, so nothing is rounded."""
    tensors, values = group_tensors(group)
    return {"values": values, "tensors": {path: _store(tensor) for path, tensor in tensors.items()}}


def load_group(stored: Mapping[str, Any]) -> Group:
    """The group of which `store_group` made the data."""
    return group_of({path: _load(tensor) for path, tensor in stored["tensors"].items()}, stored["values"])


def _take_apart(record: Group | Response | MediaRef, path: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The record's values; its tensors are added to `tensors`."""
    values: dict[str, Any] = {}
    for entry in fields(record):
        name, value = entry.name, getattr(record, entry.name)
        if isinstance(value, Tensor):
            tensors[path + name] = value
        elif name in _RECORDS:
            values[name] = [_take_apart(each, f"{path}{name}/{index}/", tensors) for index, each in enumerate(value)]
        elif isinstance(value, tuple):
            values[name] = list(value)
        elif value is not None:
            values[name] = dict(value) if isinstance(value, Mapping) else value
    return values


def _put_together(kind: type[Any], values: Mapping[str, Any], path: str, tensors: Mapping[str, Tensor]) -> Any:
    """The record of this class whose parts are under the path."""
    given: dict[str, Any] = {}
    for name in (entry.name for entry in fields(kind)):
        if path + name in tensors:
            given[name] = tensors[path + name]
        elif name in _RECORDS:
            each = enumerate(values[name])
            given[name] = tuple(
                _put_together(_RECORDS[name], part, f"{path}{name}/{index}/", tensors) for index, part in each
            )
        elif name in values:
            given[name] = tuple(values[name]) if isinstance(values[name], list) else values[name]
    return kind(**given)


def _store(tensor: Tensor) -> dict[str, Any]:
    return {"type": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape), "values": tensor.tolist()}


def _load(stored: Mapping[str, Any]) -> Tensor:
    return torch.tensor(stored["values"], dtype=_TYPES[stored["type"]]).reshape(stored["shape"])
