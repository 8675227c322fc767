"""How far a step may move a probability: the surrogate of one token (or sequence) as a function of its ratio.

With w = π / π_old and A the advantage, each gives the objective that is *maximised*. At w = 1 all have the gradient
A · ∇ log π, so with one update per batch they are one loss, whatever their limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Clip(Protocol):
    """A surrogate objective."""

    @property
    def token_log_ratio_limit(self) -> float | None:
        """Bound of each token's log-ratio before a sequence's mean is taken (GMPO); None: none."""

    def objective(self, log_ratio: Tensor, advantages: Tensor, logprob: Tensor) -> Tensor:
        """Per entry, to be maximised.

        Args:
            log_ratio: log w, with gradient.
            advantages: A, a constant.
            logprob: log π, or its mean over the sequence where the ratio is a sequence's.
        """

    def limits(self, log_ratio: Tensor, advantages: Tensor) -> Tensor:
        """Per entry: bool, the clip takes the gradient away, or bounds it."""


@dataclass(frozen=True, slots=True)
class Unclipped:
    """w · A: the importance-weighted policy gradient, unbiased, of unbounded variance."""

    token_log_ratio_limit: float | None = None

    def objective(self, log_ratio: Tensor, advantages: Tensor, logprob: Tensor) -> Tensor:
        return log_ratio.exp() * advantages

    def limits(self, log_ratio: Tensor, advantages: Tensor) -> Tensor:
        return torch.zeros_like(log_ratio, dtype=torch.bool)


@dataclass(frozen=True, slots=True)
class Clipped:
    """min(w A, clip(w, 1 − clip_low, 1 + clip_high) A): PPO (Schulman et al. 2017, arXiv 1707.06347, equation 7);
    another bound upwards than downwards: DAPO's clip-higher (arXiv 2503.14476). With `dual_clip`, at least
    dual_clip · A where A < 0, so that a ratio that exploded cannot (Ye et al. 2020, arXiv 1912.09729, section 4)."""

    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float | None = None
    """Above 1; None: no such bound."""
    token_log_ratio_limit: float | None = None
    """GMPO (arXiv 2507.20673) clips each token's log-ratio in [−limit, limit] on the side that the advantage pushes
    to, before the mean over the sequence."""

    def objective(self, log_ratio: Tensor, advantages: Tensor, logprob: Tensor) -> Tensor:
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1 - self.clip_low, 1 + self.clip_high)
        least = torch.minimum(ratio * advantages, clipped * advantages)
        if self.dual_clip is None:
            return least
        return torch.where(advantages < 0, torch.maximum(least, self.dual_clip * advantages), least)

    def limits(self, log_ratio: Tensor, advantages: Tensor) -> Tensor:
        ratio = log_ratio.exp()
        beyond = torch.where(advantages < 0, ratio < 1 - self.clip_low, ratio > 1 + self.clip_high) & (advantages != 0)
        if self.dual_clip is None:
            return beyond
        return beyond | ((advantages < 0) & (ratio > self.dual_clip))


@dataclass(frozen=True, slots=True)
class Capped:
    """sg(min(w, clip_max_weight)) · A · log π: CISPO (MiniMax 2025, arXiv 2506.13585). No token loses its gradient; its
    weight is bounded."""

    clip_max_weight: float = 5.0
    """Largest weight, at least 1: a ratio of 1 is within it."""
    token_log_ratio_limit: float | None = None

    def __post_init__(self) -> None:
        assert self.clip_max_weight >= 1, "the ratio of a first update is within the largest weight"

    def objective(self, log_ratio: Tensor, advantages: Tensor, logprob: Tensor) -> Tensor:
        return log_ratio.detach().exp().clamp(max=self.clip_max_weight) * advantages * logprob

    def limits(self, log_ratio: Tensor, advantages: Tensor) -> Tensor:
        return log_ratio.exp() > self.clip_max_weight


@dataclass(frozen=True, slots=True)
class Soft:
    """(4 / τ) σ(τ (w − 1)) A: SAPO (arXiv 2511.20347). A smooth gate in the place of a clip; τ by the sign of A."""

    tau_positive: float = 1.0
    """τ where A > 0."""
    tau_negative: float = 1.05
    """τ where A <= 0."""
    token_log_ratio_limit: float | None = None

    def objective(self, log_ratio: Tensor, advantages: Tensor, logprob: Tensor) -> Tensor:
        positive, negative = (torch.full_like(advantages, each) for each in (self.tau_positive, self.tau_negative))
        sharpness = torch.where(advantages > 0, positive, negative)
        return 4 / sharpness * torch.sigmoid(sharpness * (log_ratio.exp() - 1)) * advantages

    def limits(self, log_ratio: Tensor, advantages: Tensor) -> Tensor:
        return torch.zeros_like(log_ratio, dtype=torch.bool)
