"""Losses on sampled responses with advantages: one family whose members are settings."""

from burnish.losses.policy.clip import Capped, Clip, Clipped, Soft, Unclipped
from burnish.losses.policy.correction import Correction, Level, Limiting
from burnish.losses.policy.entropy import EntropyControl
from burnish.losses.policy.gradient import Aggregation, Old, PolicyGradient, Ratio

__all__ = [
    "Aggregation",
    "Capped",
    "Clip",
    "Clipped",
    "Correction",
    "EntropyControl",
    "Level",
    "Limiting",
    "Old",
    "PolicyGradient",
    "Ratio",
    "Soft",
    "Unclipped",
]
