"""Policy gradient with an adaptive entropy bonus: its weight rises below a target entropy, and falls above it.

    c_{k+1} = min(max(c_k + η (H* − H_k), 0), c_max)

with H_k the mean entropy of the policy over the tokens of step k, nats, and H* the target: dual ascent on the
constraint H >= H*, whose multiplier is c (Haarnoja et al. 2018, arXiv 1812.05905, section 5, where it is α).
Skywork-OR1 (He et al. 2025, arXiv 2505.22312) and TRL change c by a constant ±Δ instead; here the change is
proportional to the difference from the target, so that c converges. Limits: η = 0 is a constant weight. H_k is measured
by step k, whose own weight it does not change: nothing is computed twice, and the loss of a step depends on earlier
steps alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from burnish.losses.base import WrappedLoss
from burnish.losses.policy.gradient import PolicyGradient
from burnish.types import LossOutput, Microbatch, TokenScores

MEASURED = "policy_entropy"
"""Metric of the loss that the controller reads: nats per token."""


@dataclass(eq=False, slots=True)
class EntropyControl(WrappedLoss):
    """Adaptive loss with the entropy bonus's weight as its state. See the module."""

    loss: PolicyGradient
    """Its `entropy_coef` is the initial weight."""
    entropy_target: float
    """H*, nats per token, > 0."""
    entropy_coef_lr: float
    """η, weight per nat and step, > 0."""
    entropy_coef_max: float
    """c_max, > 0."""

    def __post_init__(self) -> None:
        self.loss = replace(self.loss, watches_entropy=True)

    @property
    def weight(self) -> float:
        """c of the next step."""
        return self.loss.entropy_coef

    def __call__(self, scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        return self.loss(scores, microbatch)

    def observe(self, sums: Mapping[str, Tensor]) -> Mapping[str, float]:
        """Updates the weight by the step's entropy, which waits for the device; returns the weight of that step."""
        used, measured = self.weight, float(sums[MEASURED])
        self._set(min(max(used + self.entropy_coef_lr * (self.entropy_target - measured), 0.0), self.entropy_coef_max))
        return {"entropy_weight": used}

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """See `losses.base.AdaptiveLoss`."""
        return {}, {"weight": self.weight}

    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """See `losses.base.AdaptiveLoss`."""
        self._set(values["weight"])

    def _set(self, weight: float) -> None:
        self.loss = replace(self.loss, entropy_coef=weight)
