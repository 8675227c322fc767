"""Values in force of settings whose default is null, for the resolved recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Resolved:
    """Value of a setting that nobody gave. Example: ``Resolved("group", "algorithm: grpo")``."""

    value: Any
    """A plain value, or a mapping of such."""
    origin: str
    """Where it comes from, as the comment in recipe.yaml: another setting, the model, the device."""


def resolved(values: Mapping[str, Any], origin: str) -> dict[str, Resolved]:
    """Values of one origin; those that are None have no effect and are left out."""
    return {key: Resolved(value, origin) for key, value in values.items() if value is not None}
