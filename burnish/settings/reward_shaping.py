"""Settings of reward shaping: what is done to a reward before it is credited. Imports no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from burnish.config.settings import Settings
from burnish.rollouts.settings import RewardNormalization, ShapingRule


class RewardShaping(Settings):
    """Changes of the reward of a response before it is credited, in the order of these keys. Metrics of rewards are
    those before them."""

    normalize: RewardNormalization = "none"
    """Running normalization over all graded responses of the stage so far: scale (divide by the standard deviation),
    standardize (also subtract the mean), none."""
    clip: Annotated[float, Field(gt=0)] | None = None
    """Clips the (normalized) reward to [-clip, clip]; null: no clipping."""
    missing_end_penalty: Annotated[float, Field(ge=0)] = 0.0
    """Subtracted from the reward of a response without an end token: one that was truncated at max_new_tokens."""
    length_penalty_coef: Annotated[float, Field(ge=0)] = 0.0
    """Subtracted from the reward for every token of the response."""

    @property
    def rule(self) -> ShapingRule | None:
        """The rule; None: rewards are credited as they are."""
        rule = ShapingRule(self.normalize, self.clip, self.missing_end_penalty, self.length_penalty_coef)
        return None if rule == ShapingRule() else rule
