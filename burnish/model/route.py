"""Routes by which a model computes groups; the probe at load finds the fastest exact one."""

from __future__ import annotations

from enum import StrEnum


class Route(StrEnum):
    """Route of a model, from the fastest to the slowest."""

    SHARED = "shared"
    """All groups in one packed row, each prompt computed once."""
    EXPANDED = "expanded"
    """All sequences in one packed row, prompts computed once per response."""
    UNPACKED = "alone"
    """Every sequence in a separate forward: exact for any causal model, also one with a recurrent state."""
