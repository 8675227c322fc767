"""Correcting for a sampler whose probabilities are not the trainer's: another engine, another precision, older weights.

The weight of a token is ρ = π_old / μ, a constant, where μ wrote it and π_old is the policy before the update. Weights
that are too large are truncated or their tokens masked; a mask zeroes numerators alone, never a denominator.
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


@dataclass(frozen=True, slots=True)
class Correction:
    """How ρ enters. Example: ``Correction("token", "truncate", high=2.0)`` (Yao et al. 2025, truncated importance
    sampling)."""

    level: Literal["token", "sequence", "mean"] = "token"
    """token: of each token alone; biased, of small variance. sequence: the product over the response, which makes the
    estimate unbiased. mean: the product's root by length, one weight for all tokens of a response."""
    rule: Literal["truncate", "mask"] = "truncate"
    """truncate: at most `high`. mask: 0 outside `low` and `high`."""
    high: float = 2.0
    low: float = 0.0

    def weights(self, logprob: Tensor, microbatch: Microbatch) -> Tensor:
        """[S] constants that multiply each token's objective."""
        assert microbatch.sampler_logprobs is not None, "a correction needs the sampler's log-probabilities"
        log_ratio = logprob.detach() - microbatch.sampler_logprobs.to(logprob.dtype)
        if self.level != "token":
            total = sum_per_response(log_ratio, microbatch)
            if self.level == "mean":
                total = total / num_tokens(microbatch).clamp(min=1)
            log_ratio = total[microbatch.sequence]
        weights = log_ratio.clamp(-LIMIT, LIMIT).exp()
        if self.rule == "truncate":
            return weights.clamp(max=self.high)
        return torch.where((weights >= self.low) & (weights <= self.high), weights, 0.0)
