r"""Policy gradient with the likelihood of right responses (VAPO, Yue et al. 2025, arXiv 2504.05118, section 4.3).

    L = L_policy − μ Σ_t w_t log π(y_t) / Σ_t w_t

with w_t = 1 for the tokens of right responses of the step and 0 for all others (`Response.weights`): the mean negative
log-likelihood of right responses. Where no response is right, the term is 0. The policy gradient itself does not read
the weights. Denominator of the term: weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from burnish.losses.base import WrappedLoss
from burnish.losses.per_response import weights_like
from burnish.losses.policy.gradient import PolicyGradient
from burnish.types import Denominator, Group, LossOutput, LossTerm, Microbatch, Score, TokenScores


@dataclass(frozen=True, slots=True)
class WithSuccessNll(WrappedLoss):
    """Policy gradient + μ · mean negative log-likelihood of the right responses; see the module."""

    loss: PolicyGradient
    success_nll_coef: float
    """μ, > 0."""

    def __call__(self, scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        output = self.loss(scores, microbatch)
        logprob = scores.of(Score.LOGPROB)
        total = -self.success_nll_coef * (weights_like(logprob, microbatch) * logprob).sum()
        return LossOutput({**output.terms, "success_nll": LossTerm(total, Denominator.WEIGHT)}, output.metrics)

    def has_signal(self, groups: Sequence[Group]) -> bool:
        """See `losses.base.KnowsSignal`: that of the policy gradient, or a right response."""
        weights = [response.weights for group in groups for response in group.responses]
        return self.loss.has_signal(groups) or any(each is not None and bool(each.any()) for each in weights)
