r"""Evaluators of reward models with several scores, and of process reward models, on held-out responses.

Of K scores: for each, the mean absolute error, and Pearson's correlation r with its interval of 95 % by Fisher's z
(1921): tanh(artanh r ± 1.96 / √(n − 3)).

Of steps: the share classified correctly (right or wrong), and the *first error*: a response counts as correct if the
first step classified as wrong is the first wrong step, or if no step is and none is wrong (ProcessBench, Zheng et al.
2024, arXiv 2412.06559, whose F1 is the harmonic mean of the accuracies on responses with an error and without one).
Intervals are Wilson's, over steps and over responses; steps of one response are not independent, so the first is too
narrow.
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
from burnish.parallel.world import ONE_PROCESS, World
from burnish.train.step import score_joined
from burnish.types import Group, Microbatch, Score, TokenScores
from burnish.watch.parts import OnPart, no_report

Numbers = NDArray[np.float64]
_Z = 1.959964
"""Standard normal quantile of a 95 % interval."""
RIGHT = 0.5
"""A step with a label above this is right."""


@dataclass(frozen=True, eq=False, slots=True)
class ScoresResult:
    """Scores of R responses, K each."""

    names: tuple[str, ...]
    """[K]"""
    values: Numbers
    """[R, K] scores by the reward model."""
    labels: Numbers
    """[R, K] scores of the data."""

    def figures(self) -> dict[str, float]:
        """Metrics by the names of the scores; a correlation is left out where all values are the same."""
        metrics: dict[str, float] = {}
        for name, values, labels in zip(self.names, self.values.T, self.labels.T, strict=True):
            metrics[f"absolute_error_of_{name}"] = float(np.abs(values - labels).mean())
            r = correlation(values, labels)
            if r is not None:
                ends = (("", r.value), ("_low", r.low), ("_high", r.high))
                metrics |= {f"correlation_of_{name}{end}": value for end, value in ends}
        return metrics

    def samples(self) -> list[dict[str, object]]:
        """Scores of every response, by the reward model and of the data."""
        return [
            {"values": dict(zip(self.names, values, strict=True)), "given": dict(zip(self.names, labels, strict=True))}
            for values, labels in zip(self.values.tolist(), self.labels.tolist(), strict=True)
        ]


@dataclass(frozen=True, eq=False, slots=True)
class StepsResult:
    """Values of the steps of R responses."""

    values: Sequence[Numbers]
    """[R] of [steps] values by the reward model."""
    labels: Sequence[Numbers]
    """[R] of [steps] labels of the data."""
    right_above: float
    """A step with a value above this is classified as right: 0 for logits, ½ for regression."""

    def figures(self) -> dict[str, float]:
        """Metrics of steps and of first errors; empty without responses."""
        if not self.values:
            return {}
        pairs = list(zip(self.values, self.labels, strict=True))
        right = [(values > self.right_above) == (labels > RIGHT) for values, labels in pairs]
        first = np.array([self._finds_first_error(values, labels) for values, labels in pairs], np.float64)
        flawed = np.array([bool((labels <= RIGHT).any()) for labels in self.labels])
        shares = {
            "step_accuracy": wilson_interval(float(sum(steps.sum() for steps in right)), sum(map(len, right))),
            "first_error_accuracy": wilson_interval(float(first.sum()), len(first)),
        }
        parts = {name: first[mask] for name, mask in (("if_wrong", flawed), ("if_right", ~flawed)) if mask.any()}
        shares |= {f"first_error_accuracy_{name}": wilson_interval(float(p.sum()), len(p)) for name, p in parts.items()}
        metrics = {
            f"{name}{end}": value
            for name, share in shares.items()
            for end, value in (("", share.value), ("_low", share.low), ("_high", share.high))
        }
        if len(parts) == 2:
            one, other = (float(part.mean()) for part in parts.values())
            metrics["first_error_f1"] = 2 * one * other / (one + other) if one + other else 0.0
        return metrics

    def _finds_first_error(self, values: Numbers, labels: Numbers) -> bool:
        """Whether the first step classified as wrong is the first wrong step, or both do not exist."""
        predicted, true = np.flatnonzero(values <= self.right_above), np.flatnonzero(labels <= RIGHT)
        return predicted[:1].tolist() == true[:1].tolist()

    def samples(self) -> list[dict[str, object]]:
        """Values and labels of the steps of every response."""
        pairs = zip(self.values, self.labels, strict=True)
        return [{"values": values.tolist(), "labels": labels.tolist()} for values, labels in pairs]


def right_above(head: ValueHeadConfig) -> float:
    """Value above which a step is classified as right: the logit of ½, or ½ for regression."""
    return 0.0 if head.problem == "multi_label_classification" else RIGHT


def correlation(one: Numbers, other: Numbers) -> Proportion | None:
    """Pearson's correlation with its interval; None: one variable is constant, or there are fewer than four values.

    Example: of (1, 2, 3, 4) and (1, 3, 2, 4), 0.8 in [−0.28, 0.996].
    """
    if len(one) < 4 or not one.std() or not other.std():
        return None
    value = float(np.clip(np.corrcoef(one, other)[0, 1], -1, 1))
    if abs(value) == 1:
        return Proportion(value, value, value)
    reach = _Z / math.sqrt(len(one) - 3)
    return Proportion(value, math.tanh(math.atanh(value) - reach), math.tanh(math.atanh(value) + reach))


def evaluate_scores(
    policy: Model,
    rows: Sequence[Group],
    names: tuple[str, ...],
    budget: int,
    world: World = ONE_PROCESS,
    on_part: OnPart = no_report,
) -> ScoresResult:
    """Scores responses, with dropout off; the model's mode is kept.

    Args:
        policy: a reward model with K outputs.
        rows: groups with their scored token at the end (`sources.value_targets`), with scores.
        names: of the scores.
        budget: limit of a microbatch, tokens.
        world: processes that share the microbatches; all give all rows and get all scores.
        on_part: is told how many rows are scored.
    """
    values, labels = [], []
    for scores, joined in _scored(policy, rows, budget, world, on_part):
        order = joined.sequence_group.argsort(stable=True)
        values.append(values_of_each(scores, joined)[order].double().cpu().numpy())
        labels.append(joined.sequence_scores[order].double().cpu().numpy())
    return ScoresResult(names, np.concatenate(values), np.concatenate(labels))


def evaluate_steps(
    policy: Model,
    rows: Sequence[Group],
    budget: int,
    right_above: float,
    world: World = ONE_PROCESS,
    on_part: OnPart = no_report,
) -> StepsResult:
    """Values of steps; arguments as in `evaluate_scores`, rows are groups with values at their steps."""
    values: list[Numbers] = []
    labels: list[Numbers] = []
    for scores, joined in _scored(policy, rows, budget, world, on_part):
        assert joined.step_labels is not None, "steps have labels"
        sizes = joined.sequence_tokens.tolist()
        parts = zip(scores.of(Score.VALUE).split(sizes), joined.step_labels.split(sizes), strict=True)
        sequences = [tuple(tensor.double().cpu().numpy() for tensor in part) for part in parts]
        for index in joined.sequence_group.argsort(stable=True).tolist():
            if len(sequences[index][0]):
                values.append(sequences[index][0])
                labels.append(sequences[index][1])
    return StepsResult(values, labels, right_above)


@torch.no_grad()
def _scored(
    policy: Model, rows: Sequence[Group], budget: int, world: World, on_part: OnPart
) -> Iterator[tuple[TokenScores, Microbatch]]:
    was_training = policy.model.training
    policy.model.eval()
    for start in range(0, len(rows), GROUPS_AT_ONCE):
        on_part("responses scored", start, len(rows))
        block = [rows[i] for i in range(start, min(start + GROUPS_AT_ONCE, len(rows)))]
        yield score_joined(policy, policy.pack(block, budget), [Score.VALUE], world)
    policy.model.train(was_training)


@dataclass(frozen=True, eq=False, slots=True)
class ScoresEval:
    """Evaluator of a reward model with several scores."""

    rows: Sequence[Group]
    names: tuple[str, ...]
    budget: int
    world: World = ONE_PROCESS

    def evaluate(self, policy: Model, on_part: OnPart = no_report) -> EvalResult:
        scores = evaluate_scores(policy, self.rows, self.names, self.budget, self.world, on_part)
        return EvalResult(scores.figures())


@dataclass(frozen=True, eq=False, slots=True)
class StepsEval:
    """Evaluator of a process reward model."""

    rows: Sequence[Group]
    budget: int
    right_above: float
    world: World = ONE_PROCESS

    def evaluate(self, policy: Model, on_part: OnPart = no_report) -> EvalResult:
        steps = evaluate_steps(policy, self.rows, self.budget, self.right_above, self.world, on_part)
        return EvalResult(steps.figures())
