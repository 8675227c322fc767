"""Losses on sampled responses with advantages: one family whose members are settings."""

from burnish.losses.policy.clip import Capped, Clip, Clipped, Soft, Unclipped
from burnish.losses.policy.correction import Correction
from burnish.losses.policy.gradient import PolicyGradient

__all__ = ["Capped", "Clip", "Clipped", "Correction", "PolicyGradient", "Soft", "Unclipped"]
