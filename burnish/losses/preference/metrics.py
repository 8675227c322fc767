"""Metrics of preference losses, each a sum with its denominator. They are not differentiated.

=====================================  ============  ================================================================
name                                   over          meaning
=====================================  ============  ================================================================
reward_chosen, reward_rejected         groups        implicit rewards, as the loss takes them
reward_margin                          groups        their difference
pair_accuracy                          groups        1 if the chosen has the higher reward, ½ if they are equal
logprob_chosen, logprob_rejected       groups        log-probabilities of the responses, nats
kl                                     sequences     Σ_t ½ (log π − log π_ref)² of a response, nats; see below
=====================================  ============  ================================================================

For responses that the policy wrote itself, the mean of ½ (log π − log π_ref)² is an estimate of the KL divergence per
token that is never negative and has a small bias near 0. For responses from a data set it says how far the policy has
moved on them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from burnish.losses.per_response import log_ratios, response_of_each, total_logprob
from burnish.types import Denominator, LossTerm, Microbatch


def pair_metrics(
    rewards: Tensor, logprob: Tensor, microbatch: Microbatch, *, at: tuple[int, int], against_reference: bool
) -> Mapping[str, LossTerm]:
    """Metrics of pairs: rewards [R], logprob [S], `at` the indices of chosen and rejected in their group."""
    totals = total_logprob(logprob.detach(), microbatch)
    likely, unlikely = (response_of_each(totals, microbatch, index, max(at) + 1) for index in at)
    found = {
        **reward_metrics(rewards, microbatch, at=at),
        "logprob_chosen": LossTerm(likely.sum(), Denominator.GROUPS),
        "logprob_rejected": LossTerm(unlikely.sum(), Denominator.GROUPS),
    }
    return {**found, **distance_metrics(logprob, microbatch)} if against_reference else found


def reward_metrics(rewards: Tensor, microbatch: Microbatch, *, at: tuple[int, int] = (0, 1)) -> Mapping[str, LossTerm]:
    """Metrics of pairs that depend on their rewards [R] alone."""
    chosen, rejected = (response_of_each(rewards.detach(), microbatch, index, max(at) + 1) for index in at)
    sums = {
        "reward_chosen": chosen,
        "reward_rejected": rejected,
        "reward_margin": chosen - rejected,
        "pair_accuracy": is_above(chosen, rejected),
    }
    return {name: LossTerm(values.sum(), Denominator.GROUPS) for name, values in sums.items()}


def distance_metrics(logprob: Tensor, microbatch: Microbatch) -> Mapping[str, LossTerm]:
    """Distance of the policy from its reference on the responses."""
    squares = 0.5 * log_ratios(logprob.detach(), microbatch) ** 2
    return {"kl": LossTerm(torch.where(microbatch.response_positions >= 0, squares, 0.0).sum(), Denominator.SEQUENCES)}


def is_above(upper: Tensor, lower: Tensor) -> Tensor:
    """1 if upper > lower, ½ if they are equal."""
    return (upper > lower).to(upper.dtype) + 0.5 * (upper == lower).to(upper.dtype)
