"""KL penalty against a reference in the reward, per token or per response."""

from __future__ import annotations

import torch
from torch import Tensor


def kl_shaped(advantages: Tensor, logprobs: Tensor, reference_logprobs: Tensor, kl_coef: float) -> Tensor:
    """A_t − β (log π(y_t) − log π_ref(y_t)), as a detached reward of the token that it falls on (discount 0).

    Its expected policy gradient is that of −β Σ_t KL(π ‖ π_ref) where prefixes are held fixed: E[(log π − log π_ref)
    ∇ log π] is the gradient of the exact divergence of each next-token distribution. (Differentiating the estimator
    log π − log π_ref itself gives E[∇ log π] = 0.) For REINFORCE++ and RLOO, which sum over the sequence, subtract the
    sum from the reward instead: see `sequence_kl`.

    Args:
        advantages: [R].
        logprobs: [R] nats, of the policy that sampled the tokens; a constant.
        reference_logprobs: [R] nats.
        kl_coef: nats of reward per nat of divergence.
    """
    return advantages - kl_coef * (logprobs - reference_logprobs)


def sequence_kl(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Σ_t (log π − log π_ref), the k1 estimate of a response's divergence: a scalar, unbiased, of large variance."""
    return torch.sum(logprobs - reference_logprobs)
