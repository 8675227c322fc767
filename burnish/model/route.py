"""How a model computes groups: the probe at load finds the fastest way that is exact."""

from __future__ import annotations

from enum import StrEnum


class Route(StrEnum):
    """From the fastest to the slowest."""

    SHARED = "shared"
    """All groups in one packed row, each prompt computed once."""
    EXPANDED = "expanded"
    """All sequences in one packed row, prompts computed once per response."""
    ALONE = "alone"
    """Every sequence in a forward of its own: exact for any causal model, also one that keeps a state."""
