"""Rollout metrics of a batch; docs/glossary.md defines them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from burnish.credit.teacher import sampled_kl
from burnish.rewards.verdict import label_shares
from burnish.rollouts.replay_buffer import Replayed
from burnish.rollouts.worker import Rollouts
from burnish.rounding import deviation
from burnish.types import Group, Response

N_GRAM = 4
"""Length of the n-grams of `repetition`, tokens."""


def rollout_metrics(
    rollouts: Sequence[Rollouts], num_trained: int, trained: Sequence[Group], equal_rewards: float | None
) -> dict[str, float]:
    """Metrics of all groups that were sampled for a batch.

    Args:
        rollouts: all rollouts of the batch, at least one group.
        num_trained: number of groups with a gradient.
        trained: the groups that are trained on, with their streams filled in.
        equal_rewards: see `Batcher.equal_rewards`; None: rewards are measured only.
    """
    graded_groups = [graded for rollout in rollouts for graded in rollout.groups]
    responses: list[Response] = [response for graded in graded_groups for response in graded.group.responses]
    rewards = [response.reward for response in responses if response.reward is not None]
    parts: dict[str, list[float]] = {}
    verdicts = [verdict for graded in graded_groups for verdict in graded.verdicts]
    for name, outcome in (part for verdict in verdicts for part in verdict.parts.items()):
        if isinstance(outcome, float):
            parts.setdefault(name, []).append(outcome)
    grades = {
        "reward": mean(rewards),
        "reward_std": mean([deviation(graded.rewards) for graded in graded_groups]),
        **({} if equal_rewards is None else {"equal_rewards": equal_rewards}),
        **{f"reward/{name}": mean(values) for name, values in parts.items()},
        **{f"reward/{name}": share for name, share in label_shares(verdicts).items()},
        "ungraded": float(len(responses) - len(rewards)),
        "ungraded_share": 1 - len(rewards) / len(responses),
    }
    has_rewards = any(verdict.parts for verdict in verdicts)
    return {
        **(grades if has_rewards else {}),
        "groups_dropped": float(len(graded_groups) - num_trained),
        "response_length": mean([float(len(response.tokens)) for response in responses]),
        "entropy": -mean(_logprobs(responses)),
        "finished": mean([float(response.finish == "end") for response in responses]),
        "repetition": mean([_repeated(response.tokens.tolist()) for response in responses]),
        "duplicates": mean([_duplicates(graded.texts) for graded in graded_groups]),
        "seconds_sampling": sum(rollout.seconds_sampling for rollout in rollouts),
        "seconds_grading": sum(rollout.seconds_grading for rollout in rollouts),
        **_divergence([response for group in trained for response in group.responses]),
        **_teacher_divergence([response for group in trained for response in group.responses]),
    }


def replay_metrics(replayed: Sequence[Replayed], step: int) -> dict[str, float]:
    """Number of replayed items of a batch, and their mean age in steps."""
    return {"replayed": float(len(replayed)), "replayed_age": mean([float(step - drawn) for drawn, _ in replayed])}


def mean(values: Sequence[float]) -> float:
    """The mean; 0 of an empty sequence."""
    return float(np.mean(values)) if len(values) else 0.0


def _divergence(responses: Sequence[Response]) -> dict[str, float]:
    """KL divergence from the reference, nats per token: the k1 estimate on trained responses; {} without a
    reference."""
    pairs = [(r.sampler_logprobs, r.reference_logprobs) for r in responses]
    ratios = [policy - reference for policy, reference in pairs if policy is not None and reference is not None]
    return {"reference_kl": float(torch.cat(ratios).mean())} if ratios else {}


def _teacher_divergence(responses: Sequence[Response]) -> dict[str, float]:
    """KL divergence from the teacher, nats per token: the k1 estimate on trained responses; {} without the teacher's
    log-probabilities."""
    scored = [response for response in responses if response.teacher_logprobs is not None]
    total, tokens = sampled_kl(scored)
    return {"teacher_kl": total / tokens} if tokens else {}


def _duplicates(texts: Sequence[str]) -> float:
    """Share of the responses to a prompt that repeat another one; 0 of a single response."""
    return 1 - (len(set(texts)) - 1) / (len(texts) - 1) if len(texts) > 1 else 0.0


def _repeated(tokens: Sequence[int]) -> float:
    """Share of n-grams that occurred before in the response; 0 for a response shorter than n."""
    grams = [tuple(tokens[start : start + N_GRAM]) for start in range(len(tokens) - N_GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _logprobs(responses: Sequence[Response]) -> list[float]:
    """Of every token, as the sampler wrote it. Their mean is an unbiased estimate of minus the entropy, if tokens are
    drawn from the whole distribution: no truncation, no penalty."""
    streams = [each.sampler_logprobs for each in responses if each.sampler_logprobs is not None]
    return torch.cat(streams).tolist()
