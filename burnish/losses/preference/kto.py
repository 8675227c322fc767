r"""KTO: preference learning from labels of single responses (Ethayarajh et al. 2024, arXiv 2402.01306, equation 7).

    desirable     λ_D (1 − σ(r − βz))
    undesirable   λ_U (1 − σ(βz − r)),      r = β log π/π_ref,   z = max(0, mean over mismatched pairs of log π/π_ref)

z estimates the KL divergence of policy and reference with prompts joined to other prompts' responses, so that it needs
no sampling. These pairs are groups with `scored_only` (`sources.mismatched_pairs`); z is the mean over all of the step
(and all ranks), clamped, detached. Without such groups z is 0: then this is APO-zero for single verdicts (arXiv
2408.06266), as at the beginning of a stage, where policy and reference agree. Each response counts on its own, so
groups may have any number of labelled responses.

Denominator: responses. A reward is 1 (desirable) or 0 (undesirable). Metrics: rewards and log-probabilities by label, z
as `kl`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from burnish.losses.base import LossDefaults
from burnish.losses.per_response import total_logprob
from burnish.losses.preference.implicit import LogRatio
from burnish.types import Denominator, LossOutput, LossTerm, Microbatch, Scope, Score, TokenScores


@dataclass(frozen=True, eq=False, slots=True)
class Kto(LossDefaults):
    """See the module."""

    beta: float = 0.1
    """β > 0, reward per nat."""
    desirable_weight: float = 1.0
    """λ_D > 0; λ_D · (number desirable) / (λ_U · (number undesirable)) is best between 1 and 3/2 (section 4.2)."""
    undesirable_weight: float = 1.0
    """λ_U > 0."""
    z: Tensor | None = None
    """Scalar, nats, of this step (`with_measurements`); None: no mismatched pairs, z = 0."""

    @property
    def needs(self) -> Collection[Score]:
        return [Score.LOGPROB]

    @property
    def scope(self) -> Scope:
        return Scope.SEQUENCE

    def with_measurements(self, scores: TokenScores, microbatch: Microbatch) -> Kto:
        """Takes z from the log-ratios of the step's mismatched pairs."""
        ratios = LogRatio(beta=1.0)(scores.of(Score.LOGPROB).detach(), microbatch)
        return replace(self, z=ratios.mean().clamp(min=0))

    def __call__(self, scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        logprob, verdict = scores.of(Score.LOGPROB), microbatch.sequence_reward
        desirable = verdict == 1
        torch._assert_async((desirable | (verdict == 0)).all(), "a verdict is 1 or 0")
        rewards = LogRatio(self.beta)(logprob, microbatch)
        z = torch.zeros_like(rewards[:1]).sum() if self.z is None else self.z.to(rewards.dtype)
        gain = rewards - self.beta * z
        costs = torch.where(
            desirable, self.desirable_weight * (-gain).sigmoid(), self.undesirable_weight * gain.sigmoid()
        )
        term = {"preference": LossTerm(costs.sum(), Denominator.SEQUENCES)}
        metrics = {"kl": LossTerm(z * len(rewards), Denominator.SEQUENCES)}
        values = {"reward": rewards.detach(), "logprob": total_logprob(logprob.detach(), microbatch)}
        for name, value in values.items():
            metrics[f"{name}_desirable"] = LossTerm(torch.where(desirable, value, 0.0).sum(), Denominator.DESIRABLE)
            metrics[f"{name}_undesirable"] = LossTerm(torch.where(desirable, 0.0, value).sum(), Denominator.UNDESIRABLE)
        return LossOutput(term, metrics)
