r"""Losses of a process reward model: every step of a response has a value v, at its last token, and a label l.

    step_cross_entropy:  L = 1/T Σ_t −l_t log σ(v_t) − (1 − l_t) log σ(−v_t)
    step_regression:     L = 1/T Σ_t (v_t − l_t)²

The first says how probable it is that a step is right (Lightman et al. 2023, arXiv 2305.20050, section 2.6; with soft
labels between 0 and 1 Wang et al. 2023, arXiv 2312.08935, equation 1); the second learns any score. Each step counts on
its own. Limits: with labels of 0 and 1 and one step, the first is logistic regression; both have their minimum for
equal features at the mean label. Nothing is detached. Denominator: tokens, which are steps, since no other token is
scored (`sources.value_targets.value_targets_at_steps`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from burnish.losses.reward.values import OfValues
from burnish.types import Denominator, LossOutput, LossTerm, Microbatch, Score, TokenScores


@dataclass(frozen=True, slots=True)
class StepCrossEntropy(OfValues):
    """See the module."""

    def __call__(self, scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        values, labels = scores.of(Score.VALUE), labels_of(scores, microbatch)
        torch._assert_async(((labels >= 0) & (labels <= 1)).all(), "a label is a probability")
        costs = softplus(values) - labels * values
        right = ((values.detach() > 0) == (labels > 0.5)).to(values.dtype)
        metrics = {"step_accuracy": LossTerm(right.sum(), Denominator.TOKENS)}
        return LossOutput({"steps": LossTerm(costs.sum(), Denominator.TOKENS)}, metrics)


@dataclass(frozen=True, slots=True)
class StepRegression(OfValues):
    """See the module."""

    def __call__(self, scores: TokenScores, microbatch: Microbatch) -> LossOutput:
        off = scores.of(Score.VALUE) - labels_of(scores, microbatch)
        metrics = {"absolute_error": LossTerm(off.detach().abs().sum(), Denominator.TOKENS)}
        return LossOutput({"steps": LossTerm((off**2).sum(), Denominator.TOKENS)}, metrics)


def labels_of(scores: TokenScores, microbatch: Microbatch) -> Tensor:
    """[S] the label of each step, in the type of the values."""
    values = scores.of(Score.VALUE)
    assert values.dim() == 1, "a step has one number"
    assert microbatch.step_labels is not None, "steps have labels"
    return microbatch.step_labels.to(values.dtype)
