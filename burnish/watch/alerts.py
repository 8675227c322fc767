"""Alerts: rules that detect a failing training in the metrics of a run. Pure: they get lines and return messages.

Each rule observes the line of every step in order and keeps the history that it needs. A resumed run replays the
recorded lines through its rules, so it raises the same alerts as an uninterrupted run.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Protocol

from burnish.watch.held_out_alerts import HeldOutWorse
from burnish.watch.journal_lines import AlertLine, MetricsLine
from burnish.watch.rl_alerts import rl_alerts
from burnish.watch.teacher_alert import TeacherGap

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
"""Consecutive steps with gradient 0, or without an advantage. A single one can occur."""
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

_NO_ADVANTAGE = (
    "no trained token has an advantage other than 0; with policy_gradient.mask_truncated truncated responses are not "
    "trained (rollout/finished)"
)
_NO_WEIGHT = "no token has a weight other than 0: see the weights of their rows"


class Rule(Protocol):
    """Rule that raises one kind of alert."""

    @property
    def name(self) -> str: ...

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        """Processes the metrics of the next line (without ``train/``); returns a message if the alert is raised."""
        ...


class _Rollouts:
    """Whether a stage has rollouts. Not every step has new ones, but the first one has."""

    def __init__(self) -> None:
        self._seen = False

    def has_rollouts(self, metrics: Mapping[str, float]) -> bool:
        """Whether this line, or one before, has rollouts."""
        self._seen = self._seen or "rollout/reward" in metrics
        return self._seen


class NotFinite:
    """A metric is not finite: the training diverged. The loop ends it."""

    name = "not_finite"

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        names = [name for name, value in metrics.items() if not math.isfinite(value)]
        return f"{', '.join(names)} is not a finite number" if names else None


class Divergence:
    """The running median of the loss is far above the first loss or the lowest median. Raised once per episode.

    Losses that are all positive at the beginning, such as likelihoods, are compared by their logarithms, since the
    factor matters and the noise grows with them. Other losses are around zero and are compared by differences. In a
    stage with rollouts the loss says nothing: its data change with the policy, and that of a policy gradient is around
    0 whatever the policy does.
    """

    name = "divergence"

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=LOSS_WINDOW)
        self._positive: bool | None = None  # None: not known yet
        self._lowest = math.inf
        self._limit = math.inf
        self._risen = False
        self._stage = _Rollouts()

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        loss = metrics.get("loss")
        if self._stage.has_rollouts(metrics) or loss is None or not math.isfinite(loss):
            return None
        if self._positive and loss <= 0:
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
    """The gradient norm is far above its running median. Steps without a gradient do not count."""

    name = "gradient_spike"

    def __init__(self) -> None:
        self._norms: deque[float] = deque(maxlen=SPIKE_WINDOW)
        self._stage = _Rollouts()

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        norm, has_rollouts = metrics.get("grad_norm"), self._stage.has_rollouts(metrics)
        if not norm or not math.isfinite(norm):
            return None
        median = statistics.median(self._norms) if len(self._norms) >= SPIKE_PATIENCE else math.inf
        self._norms.append(norm)
        if norm <= SPIKE_FACTOR * median:
            return None
        remedy = "see the responses of its batch in samples.jsonl" if has_rollouts else "check its rows"
        return f"the gradient norm {norm:.4g} is {norm / median:.0f} times its running median: {remedy}"


class NoGradient:
    """The gradient is 0 several times, the loss stays bitwise the same, or the first learning rate is 0.

    A step without a signal is skipped. If all rewards were equal, `rl_alerts.EqualRewards` reports it; otherwise no
    trained token had an advantage, or a weight. In a stage with rollouts an equal loss says nothing: advantages cancel.
    """

    name = "no_gradient"

    def __init__(self) -> None:
        self._no_gradient = self._skipped = 0
        self._same_loss = 1
        self._loss: float | None = None
        self._first = True
        self._equal_rewards = 0.0
        self._stage = _Rollouts()

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        loss = metrics.get("loss")
        if loss is None:
            return None
        first, self._first = self._first, False
        self._count(loss, metrics)
        if first and metrics.get("learning_rate") == 0:
            return "the learning rate of the first step is 0, so the step changes nothing"
        if self._skipped == NO_GRADIENT:
            cause = _NO_ADVANTAGE if self._stage.has_rollouts(metrics) else _NO_WEIGHT
            return f"{NO_GRADIENT} steps were skipped: {cause}"
        if self._no_gradient == NO_GRADIENT and loss == 0:
            return (
                f"the loss and its gradient are exactly 0 for {NO_GRADIENT} steps: nothing is left to learn, such as "
                "with a margin that all rows have reached, or no token is trained"
            )
        if self._no_gradient == NO_GRADIENT:
            return f"the gradient is exactly 0 for {NO_GRADIENT} steps: the loss does not depend on the trained weights"
        if self._same_loss == SAME_LOSS:
            cause = "nothing is left to learn" if loss == 0 else "the weights do not change, or rows repeat"
            return f"the loss is bitwise the same for {SAME_LOSS} steps: {cause}"
        return None

    def _count(self, loss: float, metrics: Mapping[str, float]) -> None:
        has_rollouts, skipped = self._stage.has_rollouts(metrics), "skipped" in metrics
        self._equal_rewards = metrics.get("rollout/equal_rewards", self._equal_rewards)
        has_cause = self._equal_rewards == 1  # which another alert reports
        self._skipped = self._skipped + 1 if skipped and not has_cause else 0
        is_zero = metrics.get("grad_norm") == 0 and not skipped and not has_cause
        self._no_gradient = self._no_gradient + 1 if is_zero else 0
        self._same_loss = self._same_loss + 1 if loss == self._loss and not has_rollouts else 1
        self._loss = loss


class Slowness:
    """Tokens per second stay far below their running median. Raised once per episode."""

    name = "slowness"

    def __init__(self) -> None:
        self._speeds: deque[float] = deque(maxlen=SLOW_WINDOW)
        self._slow = 0
        self._stage = _Rollouts()

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        speed, has_rollouts = metrics.get("tokens_per_second"), self._stage.has_rollouts(metrics)
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
        remedy = "check whether the machine is shared, hot, or short of memory"
        if has_rollouts:
            remedy += ", or the reward slow (rollout/seconds_grading, rollout/seconds_sampling)"
        return f"{speed:,.0f} tokens/s for {SLOW_PATIENCE} steps, the median was {typical:,.0f}: {remedy}"


class LogprobsFall:
    """The log-probabilities of chosen and of rejected responses both fall: the margin grows while probability moves to
    responses that are in no data (likelihood displacement, arXiv 2410.08847). Raised once per episode.

    On held-out rows they are compared with their first values. In training every step has other rows, so a window of
    steps is compared with the first window, by the standard error of the difference. Responses of rollouts are the
    policy's own, of changing lengths, and are not compared.
    """

    name = "logprobs_fall"

    def __init__(self) -> None:
        self._first: dict[str, list[float]] = {name: [] for name in _BOTH}
        self._last: dict[str, deque[float]] = {name: deque(maxlen=FALL_WINDOW) for name in _BOTH}
        self._held_out: tuple[float, ...] | None = None
        self._fallen = {"train": False, "eval": False}
        self._stage = _Rollouts()
        self._has_reference = False

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        if self._stage.has_rollouts(metrics):
            return None
        self._has_reference = self._has_reference or "kl" in metrics or "eval/kl" in metrics
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
        beta = "raise beta, " if self._has_reference else ""
        return (
            f"log-probabilities of {rows} responses fall, chosen by {falls[0]:.3g} and rejected by {falls[1]:.3g} "
            f"nats: lower learning_rate, {beta}or add a likelihood term (a sum of losses, such as "
            "loss={dpo: 1, sft: 0.1})"
        )


def training_rules() -> list[Rule]:
    """Rules for every method."""
    return [
        NotFinite(),
        NoGradient(),
        Divergence(),
        GradientSpike(),
        Slowness(),
        LogprobsFall(),
        HeldOutWorse(),
    ]


def rl_rules(penalties: Collection[str] = ()) -> list[Rule]:
    """Rules for stages with rollouts, which read the metrics ``rollout/…``, and ``eval/teacher_kl``.

    Args:
        penalties: names of rewards of negative weight, of which less is better.
    """
    return [*rl_alerts(penalties), TeacherGap()]


class Alerts:
    """Rules applied to the lines of one stage."""

    def __init__(
        self,
        history: Iterable[MetricsLine] = (),
        rules: Sequence[Rule] | None = None,
        penalties: Collection[str] = (),
    ) -> None:
        """
        Args:
            history: lines that an earlier process has written; they raise no alerts again.
            rules: the rules; None: all.
            penalties: see `rl_rules`.
        """
        self._rules = (*training_rules(), *rl_rules(penalties)) if rules is None else rules
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
