"""What a layer's attention has beside queries, keys and values. Both kernels of packed attention read it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, eq=False, slots=True)
class Extras:
    """The settings of one attention layer."""

    scaling: float | None = None
    """Factor of the scores; None: 1 / sqrt(D)."""
    window: int | None = None
    """How many positions a token looks back, itself included; None: all."""
