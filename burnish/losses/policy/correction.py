"""Correcting for a sampler whose probabilities are not the trainer's: another engine, another precision, older weights.

The weight of a token is ρ = π_old / μ, a constant, where μ wrote it and π_old is what the ratio is taken to: the policy
itself (`old_logprobs: policy`), or as its trainer computed it before the first update (`old_logprobs: recomputed`).
With `old_logprobs: sampler` ρ is 1 and there is nothing to correct. Weights that are too large are truncated (truncated
importance sampling, TIS) or their tokens masked (masked importance sampling, MIS); a mask zeroes numerators alone,
never a denominator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from burnish.losses.preference.responses import num_tokens, sum_per_response
from burnish.types import Microbatch

LIMIT = 20.0
"""Largest log-weight before its exponential: beyond, exp would overflow, and inf · 0 is nan."""

Level = Literal["token", "sequence", "mean"]
Limiting = Literal["tis", "mis"]


@dataclass(frozen=True, slots=True)
class Correction:
    """How ρ enters. Example: ``Correction("token", "tis", max_weight=2.0)`` (Yao et al. 2025, truncated importance
    sampling)."""

    level: Level = "token"
    """token: of each token alone; biased, of small variance. sequence: the product over the response, which makes the
    estimate unbiased. mean: the product's root by length, one weight for all tokens of a response."""
    rule: Limiting = "tis"
    """tis: at most `max_weight`. mis: 0 outside `min_weight` and `max_weight`."""
    max_weight: float = 2.0
    min_weight: float = 0.0

    def weights(self, old: Tensor, microbatch: Microbatch) -> Tensor:
        """[S] constants that multiply each token's objective; `old` is log π_old [S]."""
        return self._limited(self._raw(old, microbatch))

    def limits(self, old: Tensor, microbatch: Microbatch) -> Tensor:
        """[S] bool: the weight is not ρ itself."""
        raw = self._raw(old, microbatch)
        return self._limited(raw) != raw

    def _raw(self, old: Tensor, microbatch: Microbatch) -> Tensor:
        """[S] ρ, of the token or of its response."""
        log_ratio = old.detach() - sampled(old, microbatch)
        if self.level != "token":
            total = sum_per_response(log_ratio, microbatch)
            if self.level == "mean":
                total = total / num_tokens(microbatch).clamp(min=1)
            log_ratio = total[microbatch.sequence]
        return log_ratio.clamp(-LIMIT, LIMIT).exp()

    def _limited(self, weights: Tensor) -> Tensor:
        if self.rule == "tis":
            return weights.clamp(max=self.max_weight)
        return torch.where((weights >= self.min_weight) & (weights <= self.max_weight), weights, 0.0)


def sampled(like: Tensor, microbatch: Microbatch) -> Tensor:
    """[S] log μ, in the type of the scores."""
    assert microbatch.sampler_logprobs is not None, "a correction needs the sampler's log-probabilities"
    return microbatch.sampler_logprobs.to(like.dtype)
