"""What a batch of rollouts says in figures. Beside `rollouts`, which asks; docs/glossary.md has what each means."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from burnish.rounding import deviation
from burnish.sources.prompt_order import mean
from burnish.sources.samples import GradedGroup
from burnish.types import Group, Response

N_GRAM = 4
"""Tokens that are looked for again."""


def rollout_metrics(
    tried: Sequence[GradedGroup], kept: int, seconds: Sequence[float], learned: Sequence[Group]
) -> dict[str, float]:
    """Of all that was tried for a batch.

    Args:
        tried: at least one prompt with its responses.
        kept: those whose groups teach.
        seconds: of sampling, of judging.
        learned: those whose groups are learned from, with what was filled in.
    """
    responses: list[Response] = [response for each in tried for response in each.group.responses]
    judged = [response.reward for response in responses if response.reward is not None]
    parts: dict[str, list[float]] = {}
    for name, outcome in ((name, part) for each in tried for v in each.verdicts for name, part in v.parts.items()):
        if isinstance(outcome, float):
            parts.setdefault(name, []).append(outcome)
    return {
        "reward": mean(judged),
        "reward_std": mean([deviation(each.rewards) for each in tried]),
        **{f"reward/{name}": mean(values) for name, values in parts.items()},
        "ungraded": float(len(responses) - len(judged)),
        "ungraded_share": 1 - len(judged) / len(responses),
        "groups_dropped": float(len(tried) - kept),
        "response_length": mean([float(len(response.tokens)) for response in responses]),
        "entropy": -mean(_logprobs(responses)),
        "finished": mean([float(response.finish == "end") for response in responses]),
        "repetition": mean([_repeated(response.tokens.tolist()) for response in responses]),
        "duplicates": mean([1 - (len(set(each.texts)) - 1) / max(1, len(each.texts) - 1) for each in tried]),
        "seconds_sampling": seconds[0],
        "seconds_grading": seconds[1],
        **_divergence([response for group in learned for response in group.responses]),
    }


def _divergence(responses: Sequence[Response]) -> dict[str, float]:
    """From the reference, nats a token: the k1 estimate, of what is learned from; nothing where there is none."""
    known = [(r.sampler_logprobs, r.reference_logprobs) for r in responses]
    away = [mine - reference for mine, reference in known if mine is not None and reference is not None]
    return {"reference_kl": float(torch.cat(away).mean())} if away else {}


def _repeated(tokens: Sequence[int]) -> float:
    """Share of the n-grams that stood before in the response; 0 where it is too short to have any."""
    grams = [tuple(tokens[start : start + N_GRAM]) for start in range(len(tokens) - N_GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _logprobs(responses: Sequence[Response]) -> list[float]:
    """Of every token, as the sampler wrote it. Their mean is an unbiased estimate of minus the entropy."""
    streams = [each.sampler_logprobs for each in responses if each.sampler_logprobs is not None]
    return torch.cat(streams).tolist()
