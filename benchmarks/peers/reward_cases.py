"""Cases of reward models: sizes, and the settings of every contender."""

from __future__ import annotations

from peers.cases import FLOAT32, Case, Contender

PAIRS_PER_STEP = {"15M": 8, "100M": 4}
LEARNING_RATE = 1e-4
BURNISH = Contender("burnish", "burnish")
DEFAULTS = Contender("TRL, defaults", "trl")
"""bfloat16 autocast, gradient checkpointing, padded batches of 8 pairs, or of a step's pairs where these are fewer."""
SEARCHED = (
    *(Contender(f"TRL, float32, {n}", "trl", n, FLOAT32) for n in (1, 2, 4, 8)),
    Contender("TRL, bfloat16, 4", "trl", 4, {"gradient_checkpointing": False}),
)
"""Candidates for TRL's best setting, searched once per size: pairs of a forward, and autocast to bfloat16."""
CASES = tuple(Case(size, "hh", "full", count) for size, count in PAIRS_PER_STEP.items())
