r"""Preference accuracy of a policy on held-out comparisons, with confidence intervals.

A comparison is right if its best response has a higher reward than its worst (½ if equal).
*Length-controlled* accuracy is the mean of two: accuracy where the better response is the longer one, and accuracy
where it is the shorter one, in trained tokens (comparisons of equal length are left out). A policy that prefers by
length alone gets exactly ½, however biased the data are.

Intervals are of 95 %: Wilson's (1927) for the accuracy; for the controlled one, the mean m of two independent shares p
with Wilson's intervals [l, u], that of Newcombe (1998):

    m − ½ √( (p₁−l₁)² + (p₂−l₂)² ),    m + ½ √( (u₁−p₁)² + (u₂−p₂)² )
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from burnish.evaluate.evaluator import EvalResult
from burnish.evaluate.held_out import GROUPS_AT_ONCE
from burnish.losses.preference.implicit import ImplicitReward, LogProb
from burnish.model.policy import Model
from burnish.parallel.world import ONE_PROCESS, World
from burnish.train.step import score_joined
from burnish.types import Group, Microbatch, Response, Score, TokenScores
from burnish.watch.parts import OnPart, no_report

BY_LOGPROB = LogProb(1.0, per_token=True)
"""Reward: mean log-probability of a response's tokens."""
_Z = 1.959964
"""Standard normal quantile of a 95 % interval."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Proportion:
    """Proportion with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False, slots=True)
class ComparedPairs:
    """Reward margins of a policy for C comparisons."""

    margins: Numbers
    """[C] reward of the best response minus that of the worst."""
    longer: NDArray[np.int64]
    """[C] trained tokens of the best response minus those of the worst."""

    @property
    def right(self) -> Numbers:
        """[C] 1, ½ or 0."""
        return (self.margins > 0) + 0.5 * (self.margins == 0)

    @property
    def accuracy(self) -> Proportion:
        """Of all comparisons."""
        return wilson_interval(float(self.right.sum()), len(self.right))

    @property
    def controlled(self) -> Proportion | None:
        """Length-controlled; None: the better response is always the longer one, or never."""
        strata = [self.right[self.longer > 0], self.right[self.longer < 0]]
        if not all(len(right) for right in strata):
            return None
        one, other = (wilson_interval(float(right.sum()), len(right)) for right in strata)
        value = (one.value + other.value) / 2
        down = math.hypot(one.value - one.low, other.value - other.low) / 2
        up = math.hypot(one.high - one.value, other.high - other.value) / 2
        return Proportion(value, max(0.0, value - down), min(1.0, value + up))


def wilson_interval(right: float, count: int) -> Proportion:
    """Wilson's 95 % interval of a proportion. Example: ``wilson_interval(8, 10)`` is 0.8 in [0.49, 0.94]."""
    assert count, "a proportion is of at least one observation"
    p, n = right / count, float(count)
    center = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    reach = _Z / (1 + _Z**2 / n) * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    return Proportion(p, min(p, max(0.0, center - reach)), max(p, min(1.0, center + reach)))


def score_pairs(
    policy: Model,
    rows: Sequence[Group],
    rewards: Mapping[str, ImplicitReward],
    budget: int,
    world: World = ONE_PROCESS,
    on_part: OnPart = no_report,
) -> dict[str, ComparedPairs]:
    """Scores comparisons, with dropout off; the model's mode is kept.

    Args:
        policy: the policy whose implicit rewards are compared.
        rows: groups of at least two responses, best first; groups of one are skipped.
        rewards: name -> implicit reward; groups have reference log-probabilities if one needs them.
        budget: limit of a microbatch, tokens.
        world: processes that share the microbatches; all give all rows and get all margins.
        on_part: is told how many rows are scored.
    """

    def implicit_rewards(scores: TokenScores, joined: Microbatch) -> dict[str, Tensor]:
        return {name: reward(scores.of(Score.LOGPROB), joined) for name, reward in rewards.items()}

    def length(response: Response) -> int:
        return int(response.trainable.sum())

    return compare(policy, rows, budget, Score.LOGPROB, implicit_rewards, length, rewards, world, on_part)


@torch.no_grad()
def compare(
    policy: Model,
    rows: Sequence[Group],
    budget: int,
    need: Score,
    rewards: Callable[[TokenScores, Microbatch], Mapping[str, Tensor]],
    length: Callable[[Response], int],
    names: Collection[str],
    world: World = ONE_PROCESS,
    on_part: OnPart = no_report,
) -> dict[str, ComparedPairs]:
    """As `score_pairs`, for any token score: `rewards` gives [responses] for each of `names`, `length` the length."""
    was_training = policy.model.training
    policy.model.eval()
    margins: dict[str, list[float]] = {name: [] for name in names}
    longer: list[int] = []
    for start in range(0, len(rows), GROUPS_AT_ONCE):
        on_part("comparisons scored", start, len(rows))
        block = [rows[i] for i in range(start, min(start + GROUPS_AT_ONCE, len(rows)))]
        compared = [group for group in block if can_compare(group)]
        if not compared:
            continue
        scores, joined = score_joined(policy, policy.pack(compared, budget), [need], world)
        by_name = {name: values.tolist() for name, values in rewards(scores, joined).items()}
        groups, indices = joined.sequence_group.tolist(), joined.sequence_index.tolist()
        at = {key: k for k, key in enumerate(zip(groups, indices, strict=True))}
        for number, group in enumerate(compared):
            best, worst = at[number, 0], at[number, len(group.responses) - 1]
            for name, values in by_name.items():
                margins[name].append(values[best] - values[worst])
            longer.append(length(group.responses[0]) - length(group.responses[-1]))
    policy.model.train(was_training)
    return {
        name: ComparedPairs(np.array(values, np.float64), np.array(longer, np.int64))
        for name, values in margins.items()
    }


@dataclass(frozen=True, eq=False, slots=True)
class PreferenceEval:
    """Evaluator of preference accuracy on held-out comparisons."""

    rows: Sequence[Group]
    reward: ImplicitReward
    """Implicit reward of the stage's loss."""
    budget: int
    tags: Sequence[Sequence[str]] = ()
    """Tags of each row; empty: rows have none."""
    world: World = ONE_PROCESS
    """Processes that share the microbatches."""

    def evaluate(self, policy: Model, on_part: OnPart = no_report) -> EvalResult:
        """Accuracy and length-controlled accuracy with intervals: by the loss's reward, and by the mean log-probability
        of a token, which is informative before the first step too, when the implicit reward is 0."""
        by_logprob = {"logprob": BY_LOGPROB} if self.reward.needs_reference else {}
        rewards = {"reward": self.reward, **by_logprob}
        pairs = score_pairs(policy, self.rows, rewards, self.budget, self.world, on_part)
        result = metrics(pairs["reward"]) | by_tag(self.rows, self.tags, pairs["reward"].right)
        for name, value in metrics(pairs["logprob"]).items() if by_logprob else ():
            result[name.replace("pair_accuracy", "pair_accuracy_by_logprob")] = value
        return EvalResult(result)


def by_tag(rows: Sequence[Group], tags: Sequence[Sequence[str]], right: Numbers) -> dict[str, float]:
    """Accuracy among the comparisons of each tag; for ``harmless``, 1 minus it is the rate of over-refusal.

    Args:
        rows: all groups.
        tags: of each row; empty: rows have none.
        right: of the groups that are compared.
    """
    if not tags:
        return {}
    compared = [row_tags for row, row_tags in zip(rows, tags, strict=True) if can_compare(row)]
    names = dict.fromkeys(tag for row_tags in compared for tag in row_tags)
    masks = {name: np.array([name in row_tags for row_tags in compared]) for name in names}
    return {f"pair_accuracy_of_{name}": float(right[mask].mean()) for name, mask in masks.items()}


def can_compare(group: Group) -> bool:
    """Whether the group is trained on and has several responses."""
    return not group.scored_only and len(group.responses) > 1


def metrics(pairs: ComparedPairs) -> dict[str, float]:
    """Metrics of both accuracies and their intervals, by name; empty if there are no comparisons."""
    if not len(pairs.margins):
        return {}
    shares = {"pair_accuracy": pairs.accuracy, "pair_accuracy_length_controlled": pairs.controlled}
    return {
        f"{name}{end}": value
        for name, share in shares.items()
        if share is not None
        for end, value in (("", share.value), ("_low", share.low), ("_high", share.high))
    }
