"""Serialization of groups to plain data and back, bit for bit, for pending rollouts and the replay buffer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from burnish.types import Group, Response

_TYPES = {"int64": torch.int64, "bool": torch.bool, "float32": torch.float32, "float64": torch.float64}


def store_group(group: Group) -> dict[str, Any]:
    """The group as lists and numbers. A float32 is written as the equal float64, so nothing is rounded."""
    assert group.prompt_weights is None, "prompts of sampled responses are not trained"
    return {
        "prompt": group.prompt.tolist(),
        "metadata": dict(group.metadata),
        "responses": [_store_response(response) for response in group.responses],
    }


def load_group(stored: Mapping[str, Any]) -> Group:
    """The group of which `store_group` made the data."""
    return Group(
        prompt=torch.tensor(stored["prompt"], dtype=torch.int64),
        metadata=stored["metadata"],
        responses=tuple(
            Response(**{name: _load(value) for name, value in response.items()}) for response in stored["responses"]
        ),
    )


def _store_response(response: Response) -> dict[str, Any]:
    values = {entry.name: getattr(response, entry.name) for entry in fields(response)}
    return {name: _store(value) for name, value in values.items() if value is not None}


def _store(value: Tensor | float | str) -> Any:
    if not isinstance(value, Tensor):
        return value
    return {"type": str(value.dtype).removeprefix("torch."), "values": value.tolist()}


def _load(stored: Any) -> Any:
    if not isinstance(stored, dict):
        return stored
    return torch.tensor(stored["values"], dtype=_TYPES[stored["type"]])
