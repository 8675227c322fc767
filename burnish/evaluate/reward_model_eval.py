r"""Evaluator of a reward model on held-out comparisons: accuracy, calibration, accuracy by difference of lengths.

Accuracies and intervals are those of `preference_eval`. *Calibration*: by Bradley–Terry, the response with the
higher reward is the better one with probability p = σ(|r_best − r_worst|); the model is calibrated if among comparisons
of equal p a share p is right. The expected calibration error (Guo et al. 2017, arXiv 1706.04599, equation 3)
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
from burnish.parallel.world import ONE_PROCESS, World
from burnish.types import Group, Microbatch, Response, Score, TokenScores
from burnish.watch.parts import OnPart, no_report

BINS = 10
"""Number of bins of probabilities from ½ to 1."""
FAR = 50
"""Smallest difference of lengths that counts as large, tokens."""
_STRATA = {
    f"shorter_by_{FAR}": (-np.inf, -FAR),
    "shorter": (-FAR + 1, -1),
    "equal": (0, 0),
    "longer": (1, FAR - 1),
    f"longer_by_{FAR}": (FAR, np.inf),
}
"""Name → smallest and largest number of tokens by which the better response is longer than the worse."""


def score_by_value(
    policy: Model, rows: Sequence[Group], budget: int, world: World = ONE_PROCESS, on_part: OnPart = no_report
) -> ComparedPairs:
    """Scores comparisons with a reward model, with dropout off; the model's mode is kept.

    Args:
        policy: a reward model with one score for each response.
        rows: groups with their scored token at the end (`sources.value_targets`), best first; single ones are skipped.
        budget: limit of a microbatch, tokens.
        world: processes that share the microbatches; all give all rows and get all margins.
        on_part: is told how many rows are scored.
    """

    def values(scores: TokenScores, joined: Microbatch) -> Mapping[str, Tensor]:
        return {"value": value_of_each(scores, joined)}

    def length(response: Response) -> int:  # one token of each is scored, so it is that of the whole response
        return len(response.tokens)

    return compare(policy, rows, budget, Score.VALUE, values, length, ["value"], world, on_part)["value"]


def calibration_error(pairs: ComparedPairs) -> float:
    """Expected calibration error of at least one comparison. A tie has p = ½ and is half right."""
    confidence = 1 / (1 + np.exp(-np.abs(pairs.margins)))
    bins = np.minimum(((confidence - 0.5) * 2 * BINS).astype(np.int64), BINS - 1)
    gaps = [abs(float((pairs.right - confidence)[bins == b].sum())) for b in range(BINS)]
    return sum(gaps) / len(confidence)


def accuracy_by_length(pairs: ComparedPairs) -> dict[str, Proportion]:
    """Accuracy by how much shorter or longer the better response is; empty strata are left out."""
    result = {}
    for name, (low, high) in _STRATA.items():
        right = pairs.right[(pairs.longer >= low) & (pairs.longer <= high)]
        if len(right):
            result[name] = wilson_interval(float(right.sum()), len(right))
    return result


def reward_metrics(pairs: ComparedPairs) -> dict[str, float]:
    """All metrics by name, with their 95 % intervals; empty if there are no comparisons."""
    if not len(pairs.margins):
        return {}
    by_length = {
        f"pair_accuracy_if_{name}{end}": value
        for name, share in accuracy_by_length(pairs).items()
        for end, value in (("", share.value), ("_low", share.low), ("_high", share.high))
    }
    return {**metrics(pairs), "calibration_error": calibration_error(pairs), **by_length}


@dataclass(frozen=True, eq=False, slots=True)
class RewardModelEval:
    """Evaluator of a reward model that is trained on comparisons."""

    rows: Sequence[Group]
    """Groups with their scored token at the end."""
    budget: int
    tags: Sequence[Sequence[str]] = ()
    """Tags of each row; empty: rows have none."""
    world: World = ONE_PROCESS
    """Processes that share the microbatches."""

    def evaluate(self, policy: Model, on_part: OnPart = no_report) -> EvalResult:
        pairs = score_by_value(policy, self.rows, self.budget, self.world, on_part)
        return EvalResult(reward_metrics(pairs) | by_tag(self.rows, self.tags, pairs.right))
