"""How far a step may move a probability: the surrogate of one token (or sequence) as a function of its ratio.

With w = π / π_old and A the advantage, each gives the objective that is *maximised*. At w = 1 all have the gradient
A · ∇ log π, so with one update per batch they are one loss, whatever their limits.
`settings` has the clips with their formulas and sources; here they are computed.
"""

from __future__ import annotations

from typing import assert_never

import torch
from torch import Tensor

from burnish.losses.policy.settings import Cispo, Clip, NoClip, PpoClip, Sapo


def objective(clip: Clip, log_ratio: Tensor, advantages: Tensor, logprob: Tensor) -> Tensor:
    """Per entry, to be maximised.

    Args:
        clip: the surrogate.
        log_ratio: log w, with gradient.
        advantages: A, a constant.
        logprob: log π, or its mean over the sequence where the ratio is a sequence's.
    """
    match clip:
        case NoClip():
            return log_ratio.exp() * advantages
        case PpoClip():
            return _clipped(clip, log_ratio.exp(), advantages)
        case Cispo():
            return log_ratio.detach().exp().clamp(max=clip.clip_max_weight) * advantages * logprob
        case Sapo():
            return _gated(clip, log_ratio.exp(), advantages)
        case _:
            assert_never(clip)


def limits(clip: Clip, log_ratio: Tensor, advantages: Tensor) -> Tensor:
    """Per entry: bool, the clip takes the gradient away, or bounds it."""
    match clip:
        case NoClip() | Sapo():
            return torch.zeros_like(log_ratio, dtype=torch.bool)
        case PpoClip():
            return _is_clipped(clip, log_ratio.exp(), advantages)
        case Cispo():
            return log_ratio.exp() > clip.clip_max_weight
        case _:
            assert_never(clip)


def _clipped(clip: PpoClip, ratio: Tensor, advantages: Tensor) -> Tensor:
    clipped = ratio.clamp(1 - clip.clip_low, 1 + clip.clip_high)
    least = torch.minimum(ratio * advantages, clipped * advantages)
    if clip.dual_clip is None:
        return least
    return torch.where(advantages < 0, torch.maximum(least, clip.dual_clip * advantages), least)


def _is_clipped(clip: PpoClip, ratio: Tensor, advantages: Tensor) -> Tensor:
    beyond = torch.where(advantages < 0, ratio < 1 - clip.clip_low, ratio > 1 + clip.clip_high) & (advantages != 0)
    if clip.dual_clip is None:
        return beyond
    return beyond | ((advantages < 0) & (ratio > clip.dual_clip))


def _gated(clip: Sapo, ratio: Tensor, advantages: Tensor) -> Tensor:
    rising, falling = (torch.full_like(advantages, each) for each in (clip.tau_positive, clip.tau_negative))
    sharpness = torch.where(advantages > 0, rising, falling)
    return 4 / sharpness * torch.sigmoid(sharpness * (ratio - 1)) * advantages
