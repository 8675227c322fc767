"""Evaluator of the divergence of the policy from the policy as it was when the stage began.

A response to each of a few training prompts is sampled when the stage is built, before a checkpoint is restored: then
the policy has its first weights, so a resumed run samples the same responses again and nothing is stored. Every
evaluation scores these responses. KL(π_start ‖ π) of the prompts of the new task predicts how much a policy forgets of
others (Shenfeld, Pari and Agrawal 2025, "RL's Razor", arXiv 2509.04259).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from burnish.data.prompts import TokenizedPrompt
from burnish.evaluate.evaluator import EvalResult
from burnish.model.policy import Model
from burnish.parallel.world import ONE_PROCESS, World
from burnish.roles.scorer import LiveScorer, ResponseScores
from burnish.sampling.base import EVALUATED, Sampler, SampleRequest
from burnish.sampling.params import SamplingParams
from burnish.types import Group, Score
from burnish.watch.parts import OnPart, no_report

START = -1
"""Step of the responses in the random numbers; those of training have steps from 0 on."""


def kl_terms(log_ratio: Tensor) -> Tensor:
    """Estimates of KL(π_start ‖ π) at tokens that π_start sampled: r − 1 − log r of r = π / π_start.

    Each is at least 0 and unbiased for its token, given the tokens before it: r − 1 has the mean 0 and −log r the KL.
    (The estimator k3 of http://joschu.net/blog/kl-approx.html.) At r = 1 it is exactly 0.

    Args:
        log_ratio: [T] log π − log π_start, nats.

    Returns:
        [T] float64, nats.
    """
    log_ratio = log_ratio.double()
    return (torch.expm1(log_ratio) - log_ratio).clamp(min=0)  # rounding alone is below 0


def drawn_prompts(prompts: Sequence[TokenizedPrompt], count: int, seed: int) -> list[TokenizedPrompt]:
    """`count` of the prompts, or all if there are fewer, drawn by the seed, in their order."""
    order = np.random.default_rng([seed, 0x57A7]).permutation(len(prompts))
    return [prompts[index] for index in sorted(order[:count].tolist())]


@dataclass(frozen=True, eq=False, slots=True)
class StartKL:
    """Evaluator of KL(π_start ‖ π) on responses of π_start: `start_kl` and `start_kl_per_response`."""

    groups: Sequence[Group]
    """Prompts with one response of π_start each; of several processes, those of this one."""
    start_logprobs: ResponseScores
    """log π_start of their tokens, by the scorer that scores the policy later, so that equal weights give exactly 0."""
    budget: int
    """Maximum number of tokens of a microbatch."""
    world: World = ONE_PROCESS
    """Processes that share the prompts."""

    @classmethod
    def of(
        cls,
        policy: Model,
        prompts: Sequence[TokenizedPrompt],
        sampler: Sampler,
        params: SamplingParams,
        budget: int,
        world: World = ONE_PROCESS,
    ) -> Self:
        """Samples the responses with the policy's present weights, which are those of the start.

        Args:
            policy: the policy before its first step, with the sampling temperature.
            prompts: at least one, see `drawn_prompts`.
            sampler: the sampler of training.
            params: sampling parameters of training. Truncations (top-p, say) are left out: the KL is that of the whole
                distributions, at the sampling temperature.
            budget: maximum number of tokens of a microbatch.
            world: processes that share the prompts.
        """
        whole = replace(params, top_k=0, top_p=1.0, min_p=0.0, repetition_penalty=1.0)
        requests = [SampleRequest(prompt.tokens, prompt.row, prompt.media) for prompt in world.share(prompts)]
        sampler.publish(policy, EVALUATED)
        shares = world.gather_shares(sampler.sample(requests, 1, whole, step=START))
        groups = [group for share in shares for group in share]
        return cls(groups, LiveScorer(policy).score(groups, Score.LOGPROB, budget, world), budget, world)

    def evaluate(self, policy: Model, on_part: OnPart = no_report) -> EvalResult:
        """The mean over all tokens, nats per token, and the mean over responses of the sum over their tokens, nats.

        The second is unbiased for the KL of responses (cut at max_new_tokens); the first is a ratio of two means, whose
        bias vanishes with the number of responses.
        """
        now = LiveScorer(policy).score(self.groups, Score.LOGPROB, self.budget, self.world)
        pairs = [pair for groups in zip(now, self.start_logprobs, strict=True) for pair in zip(*groups, strict=True)]
        terms = [kl_terms(logprobs.double() - start.double()) for logprobs, start in pairs]
        responses = [(float(of_response.sum()), len(of_response)) for of_response in terms]
        total, tokens = math.fsum(kl for kl, _ in responses), sum(length for _, length in responses)
        return EvalResult({"start_kl": total / tokens, "start_kl_per_response": total / len(responses)})
