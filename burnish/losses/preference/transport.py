r"""AOT: alignment by optimal transport (Melnyk et al. 2024, arXiv 2406.05882). Compares sorted values of the step.

    Σ_i h(a_(i) − b_(i)),    a_(1) ≤ a_(2) ≤ …, b_(1) ≤ b_(2) ≤ … each sorted on its own, h the logistic cost

    unpaired   a: rewards of chosen responses, b: rewards of rejected responses (any two sets of the same size)
    paired     a: β (log π(chosen) − log π(rejected)), b: the same under the reference

so that one distribution is to dominate the other in the first order, not pair by pair. Which value meets which is
decided by a sort over all pairs of the step (over all ranks, not over a microbatch); the gradient goes through both of
a comparison. With one pair in the step, both are DPO. Ties are broken by the step's order. Nothing is detached.
Denominator: pairs.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.losses.base import LossDefaults
from burnish.losses.per_response import response_of_each
from burnish.losses.preference.contrast import OfTheStep
from burnish.losses.preference.implicit import LogProb, LogRatio
from burnish.losses.preference.logistic import Logistic
from burnish.losses.preference.metrics import pair_metrics
from burnish.types import Denominator, LossOutput, LossTerm, Microbatch, Scope, Score, TokenScores


@dataclass(frozen=True, slots=True)
class Transport(OfTheStep):
    """Sorted against sorted; on rewards of chosen and rejected it is AOT-unpaired."""

    cost: Logistic
    """h"""

    def __call__(self, chosen: Tensor, rejected: Tensor) -> Tensor:
        upper, lower = (torch.sort(values, stable=True).values for values in (chosen, rejected))
        return self.cost(upper, lower)


@dataclass(frozen=True, slots=True)
class AotPaired(LossDefaults):
    """See the module."""

    beta: float
    """β > 0."""
    transport: Transport

    @property
    def needs(self) -> Collection[Score]:
        return [Score.LOGPROB]

    @property
    def scope(self) -> Scope:
        return Scope.STEP

    def __call__(self, scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        logprob, reference = scores.of(Score.LOGPROB), microbatch.reference_logprobs
        assert reference is not None, "a loss against a reference gets rows that the reference has scored"
        of_policy = self._margins(logprob, microbatch)
        of_reference = self._margins(reference.to(logprob.dtype), microbatch)
        total = self.transport(of_policy, of_reference).sum()
        rewards = LogRatio(self.beta)(logprob, microbatch)
        metrics = pair_metrics(rewards, logprob, microbatch, at=(0, 1), against_reference=True)
        return LossOutput({"preference": LossTerm(total, Denominator.GROUPS)}, metrics)

    def _margins(self, logprob: Tensor, microbatch: Microbatch) -> Tensor:
        """[G] β (log-probability of the chosen − of the rejected)."""
        value = LogProb(self.beta)(logprob, microbatch)
        return response_of_each(value, microbatch, 0, of=2) - response_of_each(value, microbatch, 1, of=2)
