r"""How well a reward model gives scores, and judges steps, on held-out responses. Beside `rewards`, which compares.

Of K scores: for each, the mean absolute error, and Pearson's correlation r with its interval of 95 % by Fisher's z
(1921): tanh(artanh r ± 1.96 / √(n − 3)).

Of steps: the share that is judged rightly (right or wrong), and the *first error*: a response is judged rightly if the
first step that is judged wrong is the first wrong one, or none is and there is none (ProcessBench, Zheng et al. 2024,
arXiv 2412.06559, whose F1 is the harmonic mean of the accuracies on responses with an error and without one). Intervals
are Wilson's, of steps and of responses; steps of one response are not independent, so the first is too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from burnish.evaluate.evaluator import EvalResult
from burnish.evaluate.held_out import GROUPS_AT_ONCE
from burnish.evaluate.preference_eval import Proportion, wilson_interval
from burnish.losses.reward.values import values_of_each
from burnish.model.policy import Model
from burnish.model.settings import ValueHeadConfig
from burnish.step import score_joined
from burnish.types import Group, Microbatch, Score, TokenScores

Numbers = NDArray[np.float64]
_Z = 1.959964
"""Standard deviations of 95 %."""
RIGHT = 0.5
"""A step whose label is above it is right."""


@dataclass(frozen=True, eq=False, slots=True)
class ScoresResult:
    """R responses with K scores each."""

    names: tuple[str, ...]
    """[K]"""
    values: Numbers
    """[R, K] by the reward model."""
    given: Numbers
    """[R, K] by the data."""

    def figures(self) -> dict[str, float]:
        """By the names of the scores; a correlation is left out where all values are the same."""
        found: dict[str, float] = {}
        for name, values, given in zip(self.names, self.values.T, self.given.T, strict=True):
            found[f"absolute_error_of_{name}"] = float(np.abs(values - given).mean())
            share = correlation(values, given)
            if share is not None:
                ends = (("", share.value), ("_low", share.low), ("_high", share.high))
                found |= {f"correlation_of_{name}{end}": value for end, value in ends}
        return found

    def samples(self) -> list[dict[str, object]]:
        """Every response: its scores by the reward model, and by the data."""
        return [
            {"values": dict(zip(self.names, values, strict=True)), "given": dict(zip(self.names, given, strict=True))}
            for values, given in zip(self.values.tolist(), self.given.tolist(), strict=True)
        ]


@dataclass(frozen=True, eq=False, slots=True)
class StepsResult:
    """R responses, each in steps."""

    values: Sequence[Numbers]
    """[R] of [steps of each] by the reward model."""
    labels: Sequence[Numbers]
    """[R] of [steps of each] by the data."""
    right_above: float
    """A step whose value is above it is judged right: 0 of a logit, ½ of a number."""

    def figures(self) -> dict[str, float]:
        """Of steps, and of first errors; none if there was nothing to judge."""
        if not self.values:
            return {}
        right = [(v > self.right_above) == (given > RIGHT) for v, given in zip(self.values, self.labels, strict=True)]
        first = np.array([self._first(*each) for each in zip(self.values, self.labels, strict=True)], np.float64)
        flawed = np.array([bool((each <= RIGHT).any()) for each in self.labels])
        shares = {
            "step_accuracy": wilson_interval(float(sum(each.sum() for each in right)), sum(map(len, right))),
            "first_error_accuracy": wilson_interval(float(first.sum()), len(first)),
        }
        parts = {name: first[mask] for name, mask in (("if_wrong", flawed), ("if_right", ~flawed)) if mask.any()}
        shares |= {f"first_error_accuracy_{name}": wilson_interval(float(p.sum()), len(p)) for name, p in parts.items()}
        found = {
            f"{name}{end}": value
            for name, share in shares.items()
            for end, value in (("", share.value), ("_low", share.low), ("_high", share.high))
        }
        if len(parts) == 2:
            one, other = (float(part.mean()) for part in parts.values())
            found["first_error_f1"] = 2 * one * other / (one + other) if one + other else 0.0
        return found

    def _first(self, values: Numbers, labels: Numbers) -> bool:
        """Whether the first wrong step is found, or that there is none."""
        judged, given = np.flatnonzero(values <= self.right_above), np.flatnonzero(labels <= RIGHT)
        return judged[:1].tolist() == given[:1].tolist()

    def samples(self) -> list[dict[str, object]]:
        """Every response: the values of its steps, and their labels."""
        pairs = zip(self.values, self.labels, strict=True)
        return [{"values": values.tolist(), "labels": labels.tolist()} for values, labels in pairs]


def right_above(judging: ValueHeadConfig) -> float:
    """The value above which a step is judged right: a probability of ½, or half of the way from 0 to 1."""
    return 0.0 if judging.problem == "multi_label_classification" else RIGHT


def correlation(one: Numbers, other: Numbers) -> Proportion | None:
    """Pearson's, with its interval; None: one of them does not vary, or there are fewer than four.

    Example: of (1, 2, 3, 4) and (1, 3, 2, 4), 0.8 in [−0.28, 0.996].
    """
    if len(one) < 4 or not one.std() or not other.std():
        return None
    value = float(np.clip(np.corrcoef(one, other)[0, 1], -1, 1))
    if abs(value) == 1:
        return Proportion(value, value, value)
    reach = _Z / math.sqrt(len(one) - 3)
    return Proportion(value, math.tanh(math.atanh(value) - reach), math.tanh(math.atanh(value) + reach))


def evaluate_scores(policy: Model, rows: Sequence[Group], names: tuple[str, ...], budget: int) -> ScoresResult:
    """Scores responses, with dropout off; the model's mode is kept.

    Args:
        policy: a reward model with K outputs.
        rows: groups that are judged at their end (`sources.judged`), with scores.
        names: of the scores.
        budget: most tokens of a microbatch.
    """
    values, given = [], []
    for scores, joined in _scored(policy, rows, budget):
        order = joined.sequence_group.argsort(stable=True)
        values.append(values_of_each(scores, joined)[order].double().cpu().numpy())
        given.append(joined.sequence_scores[order].double().cpu().numpy())
    return ScoresResult(names, np.concatenate(values), np.concatenate(given))


def evaluate_steps(policy: Model, rows: Sequence[Group], budget: int, right_above: float) -> StepsResult:
    """Judges steps, as `evaluate_scores`; rows are groups that are judged at their steps."""
    values: list[Numbers] = []
    labels: list[Numbers] = []
    for scores, joined in _scored(policy, rows, budget):
        assert joined.step_labels is not None, "steps have labels"
        sizes = joined.sequence_tokens.tolist()
        parts = zip(scores.of(Score.VALUE).split(sizes), joined.step_labels.split(sizes), strict=True)
        found = [tuple(each.double().cpu().numpy() for each in part) for part in parts]
        for index in joined.sequence_group.argsort(stable=True).tolist():
            if len(found[index][0]):
                values.append(found[index][0])
                labels.append(found[index][1])
    return StepsResult(values, labels, right_above)


@torch.no_grad()
def _scored(policy: Model, rows: Sequence[Group], budget: int) -> Iterator[tuple[TokenScores, Microbatch]]:
    was_training = policy.model.training
    policy.model.eval()
    for start in range(0, len(rows), GROUPS_AT_ONCE):
        block = [rows[i] for i in range(start, min(start + GROUPS_AT_ONCE, len(rows)))]
        yield score_joined(policy, policy.pack(block, budget), [Score.VALUE])
    policy.model.train(was_training)


@dataclass(frozen=True, eq=False, slots=True)
class ScoresEval:
    """The evaluator of a stage that learns several scores."""

    rows: Sequence[Group]
    names: tuple[str, ...]
    budget: int

    def evaluate(self, policy: Model) -> EvalResult:
        return EvalResult(evaluate_scores(policy, self.rows, self.names, self.budget).figures())


@dataclass(frozen=True, eq=False, slots=True)
class StepsEval:
    """The evaluator of a stage that learns to judge steps."""

    rows: Sequence[Group]
    budget: int
    right_above: float

    def evaluate(self, policy: Model) -> EvalResult:
        return EvalResult(evaluate_steps(policy, self.rows, self.budget, self.right_above).figures())
