r"""How well a reward model judges, on held-out comparisons: accuracy, calibration, accuracy by difference of lengths.

Beside `pairs`, whose accuracies and intervals it shares. *Calibration*: Bradley–Terry says that the response with the
higher reward is the better one with probability p = σ(|r_best − r_worst|); it is calibrated if among comparisons of
equal p a share p is judged rightly. The expected calibration error (Guo et al. 2017, arXiv 1706.04599, equation 3)
is, over ten bins of equal width from ½ to 1,

    Σ_b n_b / n · | share right in b − mean p in b |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from burnish.evaluate.evaluator import EvalResult
from burnish.evaluate.preference_eval import ComparedPairs, Proportion, by_tag, compare, metrics, wilson_interval
from burnish.losses.reward.values import value_of_each
from burnish.model.policy import Model
from burnish.types import Group, Microbatch, Response, Score, TokenScores

BINS = 10
"""Of probabilities from ½ to 1."""
FAR = 50
"""Tokens from which on a difference of lengths counts as large."""
_STRATA = {
    f"shorter_by_{FAR}": (-np.inf, -FAR),
    "shorter": (-FAR + 1, -1),
    "equal": (0, 0),
    "longer": (1, FAR - 1),
    f"longer_by_{FAR}": (FAR, np.inf),
}
"""Name → from and to, tokens by which the better response is longer than the worse."""


def score_by_value(policy: Model, rows: Sequence[Group], budget: int) -> ComparedPairs:
    """Judges comparisons by a reward model, with dropout off; the model's mode is kept.

    Args:
        policy: a reward model with one number for each response.
        rows: groups that are judged at their end (`sources.judged`), best first; those of one are passed over.
        budget: most tokens of a microbatch.
    """

    def worth(scores: TokenScores, joined: Microbatch) -> Mapping[str, Tensor]:
        return {"value": value_of_each(scores, joined)}

    def length(response: Response) -> int:  # one token of each is scored, so it is that of the whole response
        return len(response.tokens)

    return compare(policy, rows, budget, Score.VALUE, worth, length, names=["value"])["value"]


def calibration_error(judged: ComparedPairs) -> float:
    """See the module; at least one comparison. A tie has p = ½ and is half right. Example: margins of 0 alone: 0."""
    confidence = 1 / (1 + np.exp(-np.abs(judged.margins)))
    bins = np.minimum(((confidence - 0.5) * 2 * BINS).astype(np.int64), BINS - 1)
    gaps = [abs(float((judged.right - confidence)[bins == b].sum())) for b in range(BINS)]
    return sum(gaps) / len(confidence)


def accuracy_by_length(judged: ComparedPairs) -> dict[str, Proportion]:
    """Accuracy among comparisons whose better response is so much shorter or longer; those that there are none of are
    left out."""
    found = {}
    for name, (low, high) in _STRATA.items():
        right = judged.right[(judged.longer >= low) & (judged.longer <= high)]
        if len(right):
            found[name] = wilson_interval(float(right.sum()), len(right))
    return found


def reward_metrics(judged: ComparedPairs) -> dict[str, float]:
    """All of them by name, with the ends of their intervals of 95 %; none if there was nothing to compare."""
    if not len(judged.margins):
        return {}
    by_length = {
        f"pair_accuracy_if_{name}{end}": value
        for name, share in accuracy_by_length(judged).items()
        for end, value in (("", share.value), ("_low", share.low), ("_high", share.high))
    }
    return {**metrics(judged), "calibration_error": calibration_error(judged), **by_length}


@dataclass(frozen=True, eq=False, slots=True)
class RewardModelEval:
    """The evaluator that a stage of a reward model has."""

    rows: Sequence[Group]
    """Judged at their end."""
    budget: int
    tags: Sequence[Sequence[str]] = ()
    """Of each row; empty: they have none."""

    def evaluate(self, policy: Model) -> EvalResult:
        judged = score_by_value(policy, self.rows, self.budget)
        return EvalResult(reward_metrics(judged) | by_tag(self.rows, self.tags, judged.right))
