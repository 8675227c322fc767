r"""Cross-entropy of trained tokens: the loss of supervised fine-tuning and of continued pre-training.

    L = Σ_t w_t [ −(1−ε) log p(y_t) − ε · (1/V) Σ_v log p(v) + ζ · (log Z_t)² ] / Σ_t w_t

over the trained tokens t of the whole step. Label smoothing ε with the uniform prior: Szegedy et al. 2016 (arXiv
1512.00567, section 7). z-loss ζ: PaLM (Chowdhery et al. 2022, arXiv 2204.02311, section 5). Nothing is detached.

Denominator: the sum of weights (the number of trained tokens where there are no weights), so weights are relative, as
in torch's weighted cross-entropy. Limits: ε = ζ = 0 is the mean negative log-likelihood; ε = 1 is the cross-entropy to
the uniform distribution, at least log V.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.types import Denominator, LossOutput, LossTerm, Microbatch, Scope, Score, TokenScores


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """Cross-entropy of trained tokens, the mean over the step: L = −Σ w_t log p(y_t) / Σ w_t, with label smoothing
    (arXiv 1512.00567) and z-loss (arXiv 2204.02311) as options; the module has the formula. Linear in its scores unless
    z-loss is on."""

    label_smoothing: float = 0.0
    """ε in [0, 1]."""
    z_loss: float = 0.0
    """ζ >= 0; 1e-4 is usual where it is used."""

    @property
    def needs(self) -> Collection[Score]:
        smoothing = [Score.MEAN_LOGPROB] if self.label_smoothing else []
        partition = [Score.LOG_PARTITION] if self.z_loss else []
        return [Score.LOGPROB, *smoothing, *partition]

    @property
    def scope(self) -> Scope:
        return Scope.SEQUENCE

    def __call__(self, scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        logprob = scores.of(Score.LOGPROB)
        weights = microbatch.weights.to(logprob.dtype)
        nll = -(weights * logprob).sum()
        terms = {"cross_entropy": _per_weight((1 - self.label_smoothing) * nll)}
        if self.label_smoothing:
            smoothing = -(weights * scores.of(Score.MEAN_LOGPROB)).sum()
            terms["smoothing"] = _per_weight(self.label_smoothing * smoothing)
        if self.z_loss:
            terms["z_loss"] = _per_weight(self.z_loss * (weights * scores.of(Score.LOG_PARTITION) ** 2).sum())
        # With smoothing or z-loss, the plain likelihood stays comparable between runs.
        return LossOutput(terms, metrics={} if len(terms) == 1 else {"nll": _per_weight(nll.detach())})

    def score_gradients(
        self, microbatch: Microbatch, denominators: Mapping[Denominator, float]
    ) -> Mapping[Score, Tensor] | None:
        if self.z_loss:
            return None
        count = denominators[Denominator.WEIGHT]
        share = -microbatch.weights.to(torch.float64) / (count or 1.0)
        known = {Score.LOGPROB: (1 - self.label_smoothing) * share}
        if self.label_smoothing:
            known[Score.MEAN_LOGPROB] = self.label_smoothing * share
        return known

    def with_measurements(self, scores: TokenScores, microbatch: Microbatch) -> CrossEntropy:
        return self


def _per_weight(total: Tensor) -> LossTerm:
    return LossTerm(total, Denominator.WEIGHT)
