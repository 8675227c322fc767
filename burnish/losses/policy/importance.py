"""Importance weights for a sampler whose probabilities differ from the trainer's: engine, precision, older weights.

The weight of a token is ρ = π_old / μ, a constant. μ is the sampler's probability and π_old the denominator of the
ratio: the policy itself (`old_logprobs: policy`), or the policy as it was before the first update (`recomputed`). With
`old_logprobs: sampler` ρ is 1 and there is no correction. Large weights are truncated (tis), or their tokens masked
(mis); a mask zeroes numerators alone, never a denominator.
"""

from __future__ import annotations

import torch
from torch import Tensor

from burnish.losses.per_response import num_tokens, sum_per_response
from burnish.losses.policy.settings import ImportanceCorrection
from burnish.types import Microbatch

LIMIT = 20.0
"""Bound of a log-weight before its exponential: beyond it exp would overflow, and inf · 0 is nan."""


def importance_weights(correction: ImportanceCorrection, old: Tensor, microbatch: Microbatch) -> Tensor:
    """[S] constants that multiply each token's objective; `old` is log π_old [S]."""
    return _limited(correction, _raw(correction, old, microbatch))


def is_limited(correction: ImportanceCorrection, old: Tensor, microbatch: Microbatch) -> Tensor:
    """[S] bool: the weight is not ρ itself."""
    raw = _raw(correction, old, microbatch)
    return _limited(correction, raw) != raw


def _raw(correction: ImportanceCorrection, old: Tensor, microbatch: Microbatch) -> Tensor:
    """[S] ρ, of the token or of its response."""
    log_ratio = old.detach() - sampled(old, microbatch)
    if correction.level != "token":
        total = sum_per_response(log_ratio, microbatch)
        if correction.level == "mean":
            total = total / num_tokens(microbatch).clamp(min=1)
        log_ratio = total[microbatch.sequence]
    return log_ratio.clamp(-LIMIT, LIMIT).exp()


def _limited(correction: ImportanceCorrection, weights: Tensor) -> Tensor:
    if correction.rule == "tis":
        return weights.clamp(max=correction.max_weight)
    return torch.where((weights >= correction.min_weight) & (weights <= correction.max_weight), weights, 0.0)


def sampled(like: Tensor, microbatch: Microbatch) -> Tensor:
    """[S] log μ, in the type of the scores."""
    assert microbatch.sampler_logprobs is not None, "a correction needs the sampler's log-probabilities"
    return microbatch.sampler_logprobs.to(like.dtype)
