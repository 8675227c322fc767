"""Reward shaping: running normalization, clipping and penalties of rewards before they are credited.

    r ← clip(normalize(r), ±c) − (missing-end penalty, if the response was truncated) − (length penalty) · tokens

Normalization uses the mean and the standard deviation of all rewards of the stage so far, those of the present batch
included, so that the scale of a reward model matters less (Engstrom et al. 2020, arXiv 2005.12729, section 3, for
classical control). The statistics are part of the checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from burnish.rollouts.settings import ShapingRule
from burnish.types import Response


@dataclass(eq=False)
class RunningStatistics:
    """Count, mean and standard deviation of a sequence of numbers (Welford 1962)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared differences from the mean."""

    def add(self, value: float) -> None:
        """Takes one more number."""
        self.count += 1
        difference = value - self.mean
        self.mean += difference / self.count
        self.squares += difference * (value - self.mean)

    @property
    def deviation(self) -> float:
        """Standard deviation with n − 1 in its denominator; 0 of fewer than two numbers."""
        return math.sqrt(self.squares / (self.count - 1)) if self.count > 1 else 0.0


@dataclass(eq=False)
class RewardShaper:
    """Shapes rewards by a rule."""

    rule: ShapingRule
    statistics: RunningStatistics = field(default_factory=RunningStatistics)

    def observe(self, rewards: Tensor) -> None:
        """Takes the rewards [n] of a group into the running statistics; nan: not graded."""
        for reward in rewards[~rewards.isnan()].tolist():
            self.statistics.add(reward)

    def __call__(self, responses: Sequence[Response], rewards: Tensor) -> Tensor:
        """[n] float64, the shaped rewards of the responses; nan stays."""
        shaped = self._normalized(rewards.double())
        if self.rule.clip is not None:
            shaped = shaped.clamp(-self.rule.clip, self.rule.clip)
        return shaped - torch.tensor([self._penalty(response) for response in responses], dtype=torch.float64)

    def _normalized(self, rewards: Tensor) -> Tensor:
        if self.rule.normalize == "none":
            return rewards
        centered = rewards - self.statistics.mean if self.rule.normalize == "standardize" else rewards
        deviation = self.statistics.deviation
        return centered / deviation if deviation else centered

    def _penalty(self, response: Response) -> float:
        missing = self.rule.missing_end_penalty if response.finish == "length" else 0.0
        return missing + self.rule.length_penalty * len(response.tokens)

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint, which JSON can hold."""
        return dict(vars(self.statistics))

    def load_state_dict(self, values: Mapping[str, Any]) -> None:
        """Restores the result of `state_dict`."""
        self.statistics = RunningStatistics(**values)
