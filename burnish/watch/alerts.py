"""Alerts: rules that detect a failing training in the metrics of a run. Pure: they get lines and return messages.

Each rule observes the line of every step in order and keeps the history that it needs. A resumed run replays the
recorded lines through its rules, so it raises the same alerts as an uninterrupted run.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Protocol

from burnish.watch.journal_lines import AlertLine, MetricsLine
from burnish.watch.rl_alerts import RL_ALERTS

SPIKE_FACTOR = 10.0
"""Gradient norms of healthy batches differ by a factor of two or three; a factor of ten is an outlier."""
SPIKE_WINDOW = 100
"""Steps of the running median of the norm."""
SPIKE_PATIENCE = 20
"""Steps before spikes are detected: at the beginning norms fall fast, and their median means little."""
LOSS_WINDOW = 50
"""Steps of the running median of the loss, so many that no single batch moves it."""
LOSS_PATIENCE = 20
"""Steps before divergence is detected: earlier, a median is unreliable."""
LOSS_RISE = 0.5
"""Share of the lowest loss by which the running median rises above it before it counts as divergence."""
LOSS_SPREADS = 6.0
"""The same in standard deviations between batches: noisy losses rise by half without a cause."""
SAME_LOSS = 20
"""Steps with bitwise equal losses: different rows give different losses if the loss depends on them."""
NO_GRADIENT = 3
"""Consecutive steps with gradient 0. A single one can occur, such as a batch of groups with equal rewards."""
SLOWER = 3.0
"""Factor of slowdown that longer rows alone do not cause."""
SLOW_WINDOW = 100
"""Steps of the running median of the speed."""
SLOW_PATIENCE = 20
"""Steps that slowness lasts before the alert, so that a short delay raises none."""

FALL_WINDOW = 25
"""Steps in the windows of log-probabilities that are compared, the first ones and the last ones."""
FALL_SPREADS = 3.0
"""Standard errors of the difference between the windows that count as significant."""
FALL_NATS = 1.0
"""Smallest fall of a response's log-probability that raises the alert, nats."""
_BOTH = ("logprob_chosen", "logprob_rejected")


class Rule(Protocol):
    """Rule that raises one kind of alert."""

    @property
    def name(self) -> str: ...

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        """Processes the metrics of the next line (without ``train/``); returns a message if the alert is raised."""
        ...


class NotFinite:
    """A metric is not finite: the training diverged. The loop ends it."""

    name = "not_finite"

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        names = [name for name, value in metrics.items() if not math.isfinite(value)]
        return f"{', '.join(names)} is not a finite number" if names else None


class Divergence:
    """The running median of the loss is far above the first loss or the lowest median. Raised once per episode.

    Losses that are all positive at the beginning, such as likelihoods, are compared by their logarithms, since the
    factor matters and the noise grows with them. Other losses are around zero and are compared by differences.
    """

    name = "divergence"

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=LOSS_WINDOW)
        self._positive: bool | None = None  # None: not known yet
        self._lowest = math.inf
        self._limit = math.inf
        self._risen = False

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        loss = metrics.get("loss")
        if loss is None or not math.isfinite(loss) or (self._positive and loss <= 0):
            return None
        self._losses.append(loss)
        if len(self._losses) < LOSS_PATIENCE:
            return None
        if self._positive is None:
            self._positive = min(self._losses) > 0
            self._lower_limit(self._losses[0])
        median = statistics.median(self._losses)
        if median < self._lowest:
            self._lower_limit(median)
        was_risen, self._risen = self._risen, median > self._limit
        if not self._risen or was_risen:
            return None
        return (
            f"the loss of the last {len(self._losses)} steps is {median:.4g}, the lowest was {self._lowest:.4g}: "
            "lower learning_rate or optimizer.max_grad_norm, unless the data became harder"
        )

    def _lower_limit(self, reference: float) -> None:
        """Sets the limit above a loss; the noise is estimated from differences of neighbors, free of the trend."""
        self._lowest = reference
        values = [math.log(loss) for loss in self._losses] if self._positive else list(self._losses)
        steps = [abs(after - before) for before, after in pairwise(values)]
        spread = 1.05 * statistics.median(steps)  # σ of normal noise, whose neighbors differ by σ√2
        if self._positive:
            self._limit = reference * math.exp(max(LOSS_SPREADS * spread, math.log1p(LOSS_RISE)))
        else:
            self._limit = reference + max(LOSS_SPREADS * spread, LOSS_RISE * abs(reference))


class GradientSpike:
    """The gradient norm is far above its running median."""

    name = "gradient_spike"

    def __init__(self) -> None:
        self._norms: deque[float] = deque(maxlen=SPIKE_WINDOW)

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        norm = metrics.get("grad_norm")
        if norm is None or not math.isfinite(norm):
            return None
        median = statistics.median(self._norms) if len(self._norms) >= SPIKE_PATIENCE else math.inf
        self._norms.append(norm)
        if norm <= SPIKE_FACTOR * median:
            return None
        return f"the gradient norm {norm:.4g} is {norm / median:.0f} times its running median: check its rows"


class NoGradient:
    """The gradient is 0 several times, the loss stays bitwise the same, or the first learning rate is 0.

    If the steps were skipped, the cause is that no response was better than another."""

    name = "no_gradient"

    def __init__(self) -> None:
        self._no_gradient = self._skipped = 0
        self._same_loss = 1
        self._loss: float | None = None
        self._first = True

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        loss = metrics.get("loss")
        if loss is None:
            return None
        first, self._first = self._first, False
        self._no_gradient = self._no_gradient + 1 if metrics.get("grad_norm") == 0 else 0
        skipped = "skipped" in metrics
        self._skipped = self._skipped + 1 if skipped else 0
        self._same_loss = self._same_loss + 1 if loss == self._loss and not skipped else 1
        self._loss = loss
        if first and metrics.get("learning_rate") == 0:
            return "the learning rate of the first step is 0, so the step changes nothing"
        if self._skipped == NO_GRADIENT:
            return (
                f"all responses to a prompt get the same reward, for {NO_GRADIENT} steps, which were skipped: the task "
                "is too easy or too hard for this model, or the reward does not distinguish responses (samples.jsonl)"
            )
        if self._no_gradient == NO_GRADIENT and not self._skipped:
            return f"the gradient is exactly 0 for {NO_GRADIENT} steps: the loss does not depend on the trained weights"
        if self._same_loss == SAME_LOSS:
            return f"the loss is bitwise the same for {SAME_LOSS} steps: the weights do not change, or rows repeat"
        return None


class Slowness:
    """Tokens per second stay far below their running median. Raised once per episode."""

    name = "slowness"

    def __init__(self) -> None:
        self._speeds: deque[float] = deque(maxlen=SLOW_WINDOW)
        self._slow = 0

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        speed = metrics.get("tokens_per_second")
        if speed is None:
            return None
        typical = statistics.median(self._speeds) if len(self._speeds) == SLOW_WINDOW else 0.0
        if speed * SLOWER >= typical:
            self._slow = 0
            self._speeds.append(speed)
            return None
        self._slow += 1
        if self._slow != SLOW_PATIENCE:
            return None
        return (
            f"{speed:,.0f} tokens/s for {SLOW_PATIENCE} steps, the median was {typical:,.0f}: "
            "check whether the machine is shared, hot, or short of memory"
        )


class LogprobsFall:
    """The log-probabilities of chosen and of rejected responses both fall: the margin grows while probability moves to
    responses that are in no data (likelihood displacement, arXiv 2410.08847). Raised once per episode.

    On held-out rows they are compared with their first values. In training every step has other rows, so a window of
    steps is compared with the first window, by the standard error of the difference.
    """

    name = "logprobs_fall"

    def __init__(self) -> None:
        self._first: dict[str, list[float]] = {name: [] for name in _BOTH}
        self._last: dict[str, deque[float]] = {name: deque(maxlen=FALL_WINDOW) for name in _BOTH}
        self._held_out: tuple[float, ...] | None = None
        self._fallen = {"train": False, "eval": False}

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        measured = tuple(metrics[f"eval/{name}"] for name in _BOTH if f"eval/{name}" in metrics)
        if len(measured) == len(_BOTH):
            self._held_out = self._held_out or measured
            falls = [first - last for first, last in zip(self._held_out, measured, strict=True)]
            return self._message("eval", "held-out", falls, [FALL_NATS] * len(_BOTH))
        if not all(name in metrics for name in _BOTH):
            return None
        for name in _BOTH:
            early = self._first[name]
            (early if len(early) < FALL_WINDOW else self._last[name]).append(metrics[name])
        if len(self._last[_BOTH[0]]) < FALL_WINDOW:
            return None
        windows = [(self._first[name], self._last[name]) for name in _BOTH]
        falls = [statistics.fmean(first) - statistics.fmean(last) for first, last in windows]
        spreads = [math.sqrt((statistics.variance(a) + statistics.variance(b)) / FALL_WINDOW) for a, b in windows]
        return self._message("train", "training", falls, [max(FALL_NATS, FALL_SPREADS * spread) for spread in spreads])

    def _message(self, split: str, rows: str, falls: Sequence[float], limits: Sequence[float]) -> str | None:
        had_fallen = self._fallen[split]
        self._fallen[split] = all(fall > limit for fall, limit in zip(falls, limits, strict=True))
        if had_fallen or not self._fallen[split]:
            return None
        return (
            f"log-probabilities of {rows} responses fall, chosen by {falls[0]:.3g} and rejected by {falls[1]:.3g} "
            "nats: lower learning_rate, raise beta, or add a likelihood term (loss={dpo: 1, sft: 0.1})"
        )


def training_rules() -> list[Rule]:
    """Rules for every method."""
    return [NotFinite(), NoGradient(), Divergence(), GradientSpike(), Slowness(), LogprobsFall()]


def rl_rules() -> list[Rule]:
    """Rules for reinforcement learning, which read the metrics ``rollout/…`` only."""
    return [rule() for rule in RL_ALERTS]


class Alerts:
    """Rules applied to the lines of one stage."""

    def __init__(self, history: Iterable[MetricsLine] = (), rules: Sequence[Rule] | None = None) -> None:
        """
        Args:
            history: lines that an earlier process has written; they raise no alerts again.
            rules: the rules; None: all.
        """
        self._rules = (*training_rules(), *rl_rules()) if rules is None else rules
        self._counts: Counter[str] = Counter()
        for line in history:
            self.observe(line)

    def observe(self, line: MetricsLine) -> list[AlertLine]:
        """Alerts that this line raises."""
        metrics = {name.removeprefix("train/"): value for name, value in line.metrics.items()}
        alerts = []
        for rule in self._rules:
            if (message := rule.observe(line.step, metrics)) is not None:
                self._counts[rule.name] += 1
                alerts.append(AlertLine(line.stage, line.step, rule.name, message, self._counts[rule.name]))
        return alerts


def is_announced(alert: AlertLine) -> bool:
    """Whether an alert is printed: the first, tenth, hundredth … of its rule, not every repetition."""
    return alert.count == 10 ** round(math.log10(alert.count))
