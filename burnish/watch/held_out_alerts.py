"""Alert for a held-out figure that becomes worse: overfitting, or a policy that unlearns. Pure.

It is a rule of `alerts`. It reads the metrics ``eval/…``, which are of the same rows at every evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from burnish.watch.format import metric_format

EVALUATIONS = 2
"""Consecutive evaluations that must be worse than the best by more than the margin: a single one may be noise."""
SHARE = 0.02
"""Margin of a loss, as a share of its best value, or of how far it has fallen if that is more."""
RISES = 2.0
"""Margin of a loss as a multiple of the largest rise that a better evaluation followed, since that was noise."""

_OVERFITS = "train for fewer steps, lower learning_rate, or set checkpoints.keep_best=true"
_UNLEARNS = "lower learning_rate, raise kl_coef (online_dpo: preference.beta), or set checkpoints.keep_best=true"


class _Margin(Protocol):
    """Decides by how much an evaluation must be worse than the best."""

    def is_worse(self, value: float, metrics: Mapping[str, float]) -> bool:
        """Whether the value is worse than the best by more than the margin."""

    def is_best(self, value: float, metrics: Mapping[str, float]) -> bool:
        """Whether the value is the best so far; it is remembered."""


@dataclass(slots=True)
class _LossMargin:
    """Margin of a loss: lower is better, and evaluations differ by what training did between them."""

    best: float = math.inf
    first: float = math.nan
    previous: float = math.inf
    largest_rise: float = 0.0
    noise: float = 0.0
    """Largest rise before the best evaluation."""

    def is_best(self, value: float, metrics: Mapping[str, float]) -> bool:
        self.first = value if math.isnan(self.first) else self.first
        self.largest_rise = max(self.largest_rise, value - self.previous)
        self.previous = value
        if value >= self.best:
            return False
        self.best, self.noise = value, self.largest_rise
        return True

    def is_worse(self, value: float, metrics: Mapping[str, float]) -> bool:
        scale = max(abs(self.best), self.first - self.best)
        return value > self.best + max(SHARE * scale, RISES * self.noise)


@dataclass(slots=True)
class _IntervalMargin:
    """Margin of a mean with a 95 % interval: higher is better, and the intervals must not overlap."""

    name: str
    best: float = -math.inf
    lower_end: float = -math.inf

    def is_best(self, value: float, metrics: Mapping[str, float]) -> bool:
        if value <= self.best:
            return False
        self.best, self.lower_end = value, metrics.get(f"{self.name}_low", -math.inf)
        return True

    def is_worse(self, value: float, metrics: Mapping[str, float]) -> bool:
        return metrics.get(f"{self.name}_high", math.inf) < self.lower_end


@dataclass(slots=True)
class _Figure:
    """One held-out metric with its best evaluation and those since."""

    name: str
    """Name in metrics.jsonl."""
    title: str
    extreme: str
    """lowest or highest: the direction that is better."""
    remedy: str
    margin: _Margin
    best: float = math.nan
    best_step: int = 0
    worse: list[float] = field(default_factory=list)
    """Values of the consecutive worse evaluations."""

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        """Message if this evaluation raises the alert; once, until an evaluation is the best again."""
        value = metrics.get(self.name)
        if value is None or not math.isfinite(value):
            return None
        if self.margin.is_best(value, metrics):
            self.best, self.best_step, self.worse = value, step, []
            return None
        was_raised = len(self.worse) >= EVALUATIONS
        if self.margin.is_worse(value, metrics):
            self.worse.append(value)
        elif not was_raised:
            self.worse.clear()
        if was_raised or len(self.worse) < EVALUATIONS:
            return None
        return self._message()

    def _message(self) -> str:
        write = metric_format(self.name.removeprefix("eval/")).write
        values = " and ".join(write(value) for value in self.worse)
        when = f"after step {self.best_step}" if self.best_step else "before training"
        moves = "rises" if self.extreme == "lowest" else "falls"
        return (
            f"{self.title} {moves}: {values} in the last {len(self.worse)} evaluations, the {self.extreme} was "
            f"{write(self.best)} {when}; {self.remedy}"
        )


class HeldOutWorse:
    """Held-out loss, accuracy or reward is worse than at the best evaluation, twice in a row and by more than noise.
    Raised once, until an evaluation is better than the best.

    A loss must be above the lowest by 2 % of it (or of its fall so far), and by twice the largest rise after which it
    fell again. An accuracy or reward must have a 95 % interval below that of the highest.
    """

    name = "held_out_worse"

    def __init__(self) -> None:
        self._figures: Sequence[_Figure] = (
            _Figure("eval/loss", "the held-out loss", "lowest", _OVERFITS, _LossMargin()),
            _rising("eval/pair_accuracy", "the held-out pair accuracy", _OVERFITS),
            _rising("eval/step_accuracy", "the held-out step accuracy", _OVERFITS),
            _rising("eval/reward", "the reward on held-out prompts", _UNLEARNS),
        )

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        messages = [figure.observe(step, metrics) for figure in self._figures]
        return "; ".join(message for message in messages if message) or None


def _rising(name: str, title: str, remedy: str) -> _Figure:
    return _Figure(name, title, "highest", remedy, _IntervalMargin(name))
