"""Serialization of groups to tensors and plain values and back, bit for bit.

One path for every field of the records: a tensor goes to the tensors under its path (``responses/0/advantages``), all
else to the values, which JSON can hold. A checkpoint has pending rollouts and the replay buffer in this form.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from torch import Tensor

from burnish.prefix_tree import Fork, PrefixTree
from burnish.types import Group, MediaRef, Response

TrainingItem = tuple[Group, ...]
"""Groups that are trained on for one prompt: one with advantages, or pairs of its responses."""

_RECORDS: Mapping[str, type[Any]] = {"responses": Response, "media": MediaRef, "forks": Fork}
"""Field of a group or a response with a tuple of records → their class."""


def group_tensors(group: Group) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The group as (tensors by path, which are not copied; values that JSON can hold). Fields that are None, and
    empty tuples of records, are left out."""
    tensors: dict[str, Tensor] = {}
    return tensors, _take_apart(group, "", tensors)


def group_of(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> Group:
    """The group of which `group_tensors` made tensors and values; values may have been JSON in between."""
    group: Group = _put_together(Group, values, "", tensors)
    return group


def store_items(items: Iterable[TrainingItem], name: str) -> tuple[dict[str, Tensor], list[Any]]:
    """Items as tensors below the name, and the values of their groups. Example of a tensor's name:
    ``pending/3/0/responses/1/tokens``, of group 0 of item 3."""
    tensors: dict[str, Tensor] = {}
    values: list[Any] = []
    for number, item in enumerate(items):
        values.append([])
        for index, group in enumerate(item):
            of_group, group_values = group_tensors(group)
            tensors |= {f"{name}/{number}/{index}/{path}": tensor for path, tensor in of_group.items()}
            values[-1].append(group_values)
    return tensors, values


def load_items(tensors: Mapping[str, Tensor], values: Sequence[Sequence[Any]], name: str) -> list[TrainingItem]:
    """The items of which `store_items` made tensors and values."""
    by_group: dict[str, dict[str, Tensor]] = {}
    for path, tensor in tensors.items():
        if path.startswith(f"{name}/"):
            number, index, rest = path.removeprefix(f"{name}/").split("/", 2)
            by_group.setdefault(f"{number}/{index}", {})[rest] = tensor
    return [
        tuple(group_of(by_group[f"{number}/{index}"], group) for index, group in enumerate(item))
        for number, item in enumerate(values)
    ]


def _take_apart(record: Any, path: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The record's values; its tensors are added to `tensors`."""
    values: dict[str, Any] = {}
    for entry in fields(record):
        name, value = entry.name, getattr(record, entry.name)
        if isinstance(value, Tensor):
            tensors[path + name] = value
        elif name in _RECORDS and not value:
            continue
        elif name in _RECORDS:
            values[name] = [_take_apart(each, f"{path}{name}/{index}/", tensors) for index, each in enumerate(value)]
        elif name == "tree" and value is not None:
            values[name] = _take_apart(value, "", tensors)
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
            each = enumerate(values.get(name, ()))
            given[name] = tuple(
                _put_together(_RECORDS[name], part, f"{path}{name}/{index}/", tensors) for index, part in each
            )
        elif name == "tree" and name in values:
            given[name] = _put_together(PrefixTree, values[name], "", tensors)
        elif name in values:
            given[name] = tuple(values[name]) if isinstance(values[name], list) else values[name]
    return kind(**given)
