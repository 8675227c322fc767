r"""WPO's weight: the probability of a response under the present policy.

Zhou et al. 2024, arXiv 2406.11827:

    w(y) = exp( 1/|y| Σ_t [ log π(y_t) − log Σ_v π(v)² ] )        equation 2 with the paper's weight alignment

The second term is the log of the expected probability of a token sampled from the policy, so that w = 1 where the
policy is certain, and about 1 for its own samples. The cost of a pair is multiplied by w(chosen) · w(rejected). The
weight is detached.
"""

from __future__ import annotations

import torch
from torch import Tensor

from burnish.losses.per_response import mean_logprob
from burnish.types import Microbatch, Score, TokenScores


def policy_weight(scores: TokenScores, microbatch: Microbatch) -> Tensor:
    """[R], see the module; at least 0, and without an upper limit."""
    aligned = scores.of(Score.LOGPROB).detach() - scores.of(Score.LOG_COLLISION).detach()
    return torch.exp(mean_logprob(aligned, microbatch))
