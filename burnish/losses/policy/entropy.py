"""The policy gradient with an entropy bonus whose weight follows the entropy: up where it is below a target, else down.

    c_{k+1} = min(max(c_k + η (H* − H_k), 0), c_max)

with H_k the mean entropy of the policy over the tokens of step k, nats, and H* the target: dual ascent on the
constraint H >= H*, whose multiplier is c (Haarnoja et al. 2018, arXiv 1812.05905, section 5, where it is α).
Skywork-OR1 (He et al. 2025, arXiv 2505.22312) and TRL move c by a constant ±Δ instead; here the move is as large as
what is missing, so that it comes to rest. Limits: η = 0 is a constant weight. H_k is measured by step k, whose own
weight it does not change: nothing is computed twice, and the loss of a step depends on earlier steps alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from burnish.losses.policy.gradient import PolicyGradient
from burnish.types import Denominator, Group, LossOutput, Microbatch, Scope, Score, TokenScores

MEASURED = "policy_entropy"
"""What the loss watches, and the controller reads: nats per token."""


@dataclass(eq=False, slots=True)
class EntropyControl:
    """A loss with a state, which is told of every step. See the module."""

    loss: PolicyGradient
    """Its entropy's weight is the first one."""
    entropy_target: float
    """H*, nats per token, > 0."""
    entropy_coef_lr: float
    """η, weight per nat and step, > 0."""
    entropy_coef_max: float
    """c_max, > 0."""

    def __post_init__(self) -> None:
        self.loss = replace(self.loss, watches_entropy=True)

    @property
    def needs(self) -> Collection[Score]:
        return self.loss.needs

    @property
    def scope(self) -> Scope:
        return self.loss.scope

    @property
    def weight(self) -> float:
        """c, of the next step."""
        return self.loss.entropy_coef

    def __call__(self, scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        return self.loss(scores, microbatch)

    def score_gradients(
        self, microbatch: Microbatch, denominators: Mapping[Denominator, float]
    ) -> Mapping[Score, Tensor] | None:
        return None

    def with_measurements(self, scores: TokenScores, microbatch: Microbatch) -> EntropyControl:
        return self

    def has_signal(self, groups: Sequence[Group]) -> bool:
        """See `losses.KnowsSignal`."""
        return self.loss.has_signal(groups)

    def observe(self, sums: Mapping[str, Tensor]) -> Mapping[str, float]:
        """Takes the entropy that the step measured, which waits for the device; returns the weight that it had."""
        used, measured = self.weight, float(sums[MEASURED])
        self._set(min(max(used + self.entropy_coef_lr * (self.entropy_target - measured), 0.0), self.entropy_coef_max))
        return {"entropy_weight": used}

    def memory(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """See `losses.base.Adapts`."""
        return {}, {"weight": self.weight}

    def remember(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """See `losses.base.Adapts`."""
        self._set(values["weight"])

    def _set(self, weight: float) -> None:
        self.loss = replace(self.loss, entropy_coef=weight)
