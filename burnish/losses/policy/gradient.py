r"""Policy gradient on sampled responses: one family, of which GRPO, DAPO, GSPO and others are settings.

    L = − Σ_i Σ_t a_it · ρ_it · f(w_it, A_it)  +  β Σ_i Σ_t a_it · k(π, π_ref)  −  c Σ_i Σ_t a_it · H(π)

over tokens t of responses i. f is the clip's surrogate of the ratio w = π / π_old (`surrogate`), ρ the correction for
the sampler (`importance`), A the advantage, k an estimate of the divergence from the reference (β: `kl_coef`), H the
entropy (c: `entropy_coef`). a is the aggregation:

===========  =======================================  ==========================================
aggregation  a_it, over all responses of the step      used by
===========  =======================================  ==========================================
token        1 / number of all tokens                  DAPO (arXiv 2503.14476), CISPO
sequence     1 / (responses · tokens of response i)     GRPO (arXiv 2402.03300), GSPO, SAPO
fixed        1 / (responses · L), L a constant          Dr. GRPO (arXiv 2503.20783)
===========  =======================================  ==========================================

Detached: A, ρ, π_old, π_ref. With `old_logprobs: policy`, π_old is the policy itself, detached: the ratio is exactly 1
and the gradient is − a ρ A ∇ log π, without a second forward; right for one update per batch of responses. With
`old_logprobs: sampler` it is what the sampler reported: for several updates. With `old_logprobs: recomputed` it is what
the trainer computed before the first update of a batch, so that the correction for the sampler and the ratio of the
updates are separate (Hilton et al. 2021, arXiv 2110.00641).

Estimates of the divergence *in a loss* (Schulman 2020, "Approximating KL divergence"; d = log π_ref − log π):
k2 = d² / 2 has on-policy the gradient of the exact KL(π ‖ π_ref) of each next-token distribution; k3 = e^d − d − 1 has
that of the other direction, KL(π_ref ‖ π); k1 = − d has the gradient E[∇ log π] = 0 and is therefore no choice here: as
a *reward* it is right (`credit.kl_shaped`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from burnish.losses.per_response import constant, num_tokens, sum_per_response
from burnish.losses.policy.importance import LIMIT, importance_weights, is_limited, sampled
from burnish.losses.policy.settings import PolicyGradientOptions
from burnish.losses.policy.surrogate import limits, objective
from burnish.types import Denominator, Group, LossOutput, LossTerm, Microbatch, Response, Scope, Score, TokenScores


@dataclass(frozen=True, slots=True)
class PolicyGradient(PolicyGradientOptions):
    """Policy gradient on responses with advantages: L = −Σ a ρ f(w, A), where w is the ratio to the old policy, f the
    clip's surrogate (PPO's min(w A, clip(w) A), arXiv 1707.06347), ρ the importance correction and a the aggregation;
    the module has the whole formula, `PolicyGradientOptions` the fields."""

    @classmethod
    def of(cls, options: PolicyGradientOptions) -> PolicyGradient:
        """The loss with these options."""
        return cls(**{entry.name: getattr(options, entry.name) for entry in fields(options)})

    @property
    def needs(self) -> Collection[Score]:
        return [Score.LOGPROB, Score.ENTROPY] if self.entropy_coef or self.watches_entropy else [Score.LOGPROB]

    @property
    def scope(self) -> Scope:
        return Scope.SEQUENCE

    def __call__(self, scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        logprob = scores.of(Score.LOGPROB)
        advantages = constant(microbatch.advantages, logprob)
        old = self._old(logprob, microbatch)
        log_ratio = self._log_ratio(logprob - old, advantages, microbatch)
        mean = _spread_mean(logprob, microbatch) if self.ratio_level == "sequence" else logprob
        objectives = objective(self.clip, log_ratio, advantages, mean)
        if self.importance_correction is not None:
            objectives = objectives * importance_weights(self.importance_correction, old, microbatch)
        terms = {"policy": self._aggregated(-objectives, microbatch)}
        if self.kl_coef:
            terms["kl"] = self._aggregated(self.kl_coef * self._divergence(logprob, microbatch), microbatch)
        if self.entropy_coef:
            terms["entropy"] = self._aggregated(-self.entropy_coef * scores.of(Score.ENTROPY), microbatch)
        metrics = self._metrics(log_ratio, advantages, microbatch) | self._correction_metrics(old, microbatch)
        if self.old_logprobs != "policy":
            metrics["approx_kl"] = LossTerm(_moved(logprob.detach() - old).sum(), Denominator.TOKENS)
        if self.watches_entropy:
            metrics["policy_entropy"] = LossTerm(scores.of(Score.ENTROPY).detach().sum(), Denominator.TOKENS)
        return LossOutput(terms, metrics)

    def score_gradients(
        self, microbatch: Microbatch, denominators: Mapping[Denominator, float]
    ) -> Mapping[Score, Tensor] | None:
        """At a ratio of exactly 1 the gradient is known before the forward pass, if no other term depends on scores."""
        needs_scores = self.kl_coef or Score.ENTROPY in self.needs or self.importance_correction is not None
        if self.old_logprobs != "policy" or needs_scores:
            return None
        assert microbatch.advantages is not None, "trained responses have advantages"
        advantages = microbatch.advantages.to(torch.float64)
        if self.ratio_level == "sequence":  # one ratio for all tokens: each has the mean of the response's advantages
            advantages = _spread_mean(advantages, microbatch)
        return {Score.LOGPROB: -self._shares(advantages, microbatch) / (denominators[self._denominator] or 1.0)}

    def with_measurements(self, scores: TokenScores, microbatch: Microbatch) -> PolicyGradient:
        return self

    def has_signal(self, groups: Sequence[Group]) -> bool:
        """See `losses.base.KnowsSignal`: a trained token has an advantage other than 0, or another term has a
        weight."""
        return bool(self.kl_coef or self.entropy_coef) or any(
            _has_advantage(response) for group in groups for response in group.responses
        )

    @property
    def _denominator(self) -> Denominator:
        return Denominator.TOKENS if self.loss_aggregation == "token" else Denominator.SEQUENCES

    def _old(self, logprob: Tensor, microbatch: Microbatch) -> Tensor:
        """[S] log π_old, a constant."""
        if self.old_logprobs == "policy":
            return logprob.detach()
        stream = microbatch.sampler_logprobs if self.old_logprobs == "sampler" else microbatch.old_logprobs
        return constant(stream, logprob)

    def _log_ratio(self, moved: Tensor, advantages: Tensor, microbatch: Microbatch) -> Tensor:
        """[S] log w, from log π − log π_old: of each token, or of its whole response."""
        log_ratio = moved.clamp(-LIMIT, LIMIT)
        if self.ratio_level == "token":
            return log_ratio
        if self.clip.token_log_ratio_limit is not None:
            bound = self.clip.token_log_ratio_limit
            log_ratio = torch.where(advantages > 0, log_ratio.clamp(max=bound), log_ratio.clamp(min=-bound))
        return _spread_mean(log_ratio, microbatch)

    def _divergence(self, logprob: Tensor, microbatch: Microbatch) -> Tensor:
        difference = constant(microbatch.reference_logprobs, logprob) - logprob
        if self.kl_estimator == "k2":
            return difference**2 / 2
        return torch.exp(difference.clamp(max=LIMIT)) - difference - 1

    def _shares(self, values: Tensor, microbatch: Microbatch) -> Tensor:
        """[S] values weighted by the aggregation, before its denominator."""
        if self.loss_aggregation == "token":
            return values
        if self.fixed_length is not None:
            return values / self.fixed_length
        return values / num_tokens(microbatch).clamp(min=1).to(values.dtype)[microbatch.sequence]

    def _aggregated(self, values: Tensor, microbatch: Microbatch) -> LossTerm:
        return LossTerm(self._shares(values, microbatch).sum(), self._denominator)

    def _metrics(self, log_ratio: Tensor, advantages: Tensor, microbatch: Microbatch) -> dict[str, LossTerm]:
        limited = limits(self.clip, log_ratio.detach(), advantages).to(log_ratio.dtype)
        metrics = {"clip_fraction": LossTerm(limited.sum(), Denominator.TOKENS)}
        if microbatch.reference_logprobs is not None and microbatch.sampler_logprobs is not None:
            sampler = constant(microbatch.sampler_logprobs, log_ratio)
            ratios = sampler - constant(microbatch.reference_logprobs, log_ratio)
            metrics["reference_kl"] = LossTerm(ratios.sum(), Denominator.SEQUENCES)
        return metrics

    def _correction_metrics(self, old: Tensor, microbatch: Microbatch) -> dict[str, LossTerm]:
        """Difference of the sampler's log-probabilities from π_old's, and share of limited weights."""
        if self.importance_correction is None:
            return {}
        gap = (old - sampled(old, microbatch)).abs()
        limited = is_limited(self.importance_correction, old, microbatch).to(old.dtype)
        return {
            "sampler_logprob_diff": LossTerm(gap.sum(), Denominator.TOKENS),
            "correction_limited": LossTerm(limited.sum(), Denominator.TOKENS),
        }


def _has_advantage(response: Response) -> bool:
    assert response.advantages is not None, "trained responses have advantages"
    return bool((response.advantages[response.trainable] != 0).any())


def _moved(log_ratio: Tensor) -> Tensor:
    """[S] estimates of KL(π_old ‖ π) from samples of π_old, never negative: w − 1 − log w (Schulman 2020)."""
    bounded = log_ratio.clamp(-LIMIT, LIMIT)
    return (torch.expm1(bounded) - bounded).clamp(min=0.0)


def _spread_mean(values: Tensor, microbatch: Microbatch) -> Tensor:
    """[S] the mean over the scored tokens of a response, for each of them."""
    mean = sum_per_response(values, microbatch) / num_tokens(microbatch).clamp(min=1).to(values.dtype)
    return mean[microbatch.sequence]
