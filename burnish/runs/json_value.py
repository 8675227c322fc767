"""Serialization of JSON values: exact text for Burnish's own files, strict text for files that other tools read.

Used for identity, checkpoint values, metrics and the summary.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
"""A JSON value; tuples come back as lists."""


def exact_text(value: JSON) -> str:
    """Text from which `json.loads` gives an equal value, floats bit for bit; NaN and infinities as Python writes
    them."""
    _check(value, "value")
    return json.dumps(value, indent=1) + "\n"


def strict_text(value: JSON) -> str:
    """One line of standard JSON. NaN and infinities, which JSON does not have, become null."""
    _check(value, "value")
    return json.dumps(_finite(value), allow_nan=False)


def same(one: JSON, other: JSON) -> bool:
    """Whether two values have the same JSON text: (1, 2) equals [1, 2] and NaN equals NaN, but 1 is neither 1.0 nor
    true."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def flatten(value: JSON, path: str = "") -> dict[str, JSON]:
    """Dotted path → leaf of nested lists and mappings; an empty list or mapping is a leaf.

    Example: ``flatten({"a": {"b": 1}, "c": [2]})`` is ``{"a.b": 1, "c.0": 2}``.
    """
    if isinstance(value, Mapping):
        children = [(str(key), child) for key, child in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, str):
        children = [(str(index), child) for index, child in enumerate(value)]
    else:
        return {path: value}
    if not children:
        return {path: value}
    leaves: dict[str, JSON] = {}
    for key, child in children:
        leaves |= flatten(child, f"{path}.{key}" if path else key)
    return leaves


def _check(value: JSON, path: str) -> None:
    """Asserts string keys and JSON types, since json.dumps silently turns a key 1 into "1"."""
    if isinstance(value, Mapping):
        for key, child in value.items():
            assert isinstance(key, str), f"keys of JSON objects are strings, {path} has {key!r}"
            _check(child, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, child in enumerate(value):
            _check(child, f"{path}.{index}")
    else:
        plain = value is None or isinstance(value, bool | int | float | str)
        assert plain, f"{path} is a {type(value).__name__}, which JSON cannot hold"


def _finite(value: JSON) -> JSON:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(child) for child in value]
    return value
