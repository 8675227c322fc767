"""Alerts: signs in a run's figures that it goes wrong. Pure: lines of metrics.jsonl in, sentences out.

Beside the meter. Each rule sees every step's line in order and keeps what it needs of the past. A resumed run shows
its rules the lines that are already on record, so it alerts exactly as if it had never stopped.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from burnish.watch.rl_alerts import RL_ALERTS

SPIKE_FACTOR = 10.0
"""Norms of gradients differ by a factor of two or three between healthy batches; ten is no batch like the others."""
SPIKE_WINDOW = 100
"""Steps of the running median of the norm."""
SPIKE_PATIENCE = 20
"""Steps before spikes are looked for: at the beginning norms fall fast, and their median means little."""
LOSS_WINDOW = 50
"""Steps of the running median of the loss: enough that no single batch moves it."""
LOSS_PATIENCE = 20
"""Steps before divergence is looked for: earlier, a median says little."""
LOSS_RISE = 0.5
"""Share of the lowest loss by which the running median rises above it before it counts as divergence."""
LOSS_SPREADS = 6.0
"""And in spreads between batches: noisy losses rise by half without any cause."""
SAME_LOSS = 20
"""Steps with one loss to the last bit: different rows give different losses if anything is computed from them."""
NO_GRADIENT = 3
"""Steps in a row with gradient 0. One can happen, such as a batch of groups whose rewards are all equal."""
SLOWER = 3.0
"""By this factor a machine does not slow down because rows are longer."""
SLOW_WINDOW = 100
"""Steps of the running median of the speed."""
SLOW_PATIENCE = 20
"""Steps that slowness lasts before it is told, so that a hiccup is not."""

FALL_WINDOW = 25
"""Steps whose log-probabilities are compared with those of the first as many."""
FALL_SPREADS = 3.0
"""Standard errors of that difference which chance hardly reaches."""
FALL_NATS = 1.0
"""Of a response's log-probability: less is no movement worth a word."""
_BOTH = ("logprob_chosen", "logprob_rejected")

Line = Mapping[str, object]
"""One object of metrics.jsonl."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One sign, at one step."""

    name: str
    """Of the rule."""
    step: int
    message: str
    """What was seen, and what to look at, in a sentence."""
    count: int
    """How often this rule has fired in this stage."""


class Rule(Protocol):
    """One kind of sign."""

    @property
    def name(self) -> str: ...

    def observe(self, step: int, figures: Mapping[str, float]) -> str | None:
        """Takes the next line's figures (without ``train/``); returns a message if the sign is there, anew."""
        ...


class NotFinite:
    """Some figure is not a number: the training diverged. The loop ends it."""

    name = "not_finite"

    def observe(self, step: int, figures: Mapping[str, float]) -> str | None:
        wrong = [name for name, value in figures.items() if not math.isfinite(value)]
        return f"{', '.join(wrong)} is not a finite number" if wrong else None


class Divergence:
    """The running median of the loss is far above the first loss, or the lowest median; once until it is back.

    Losses that are all positive in the beginning, such as likelihoods, are compared by their logarithms: what matters
    is by which factor they rise, and their noise grows with them. Other losses lie around zero.
    """

    name = "divergence"

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=LOSS_WINDOW)
        self._positive: bool | None = None  # None: too early to say
        self._lowest = math.inf
        self._limit = math.inf
        self._risen = False

    def observe(self, step: int, figures: Mapping[str, float]) -> str | None:
        loss = figures.get("loss")
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
            f"the loss of the last {len(self._losses)} steps is {median:.4g}, it had been {self._lowest:.4g}: "
            "a lower learning_rate or optimizer.max_grad_norm may help, if it is not the data that became harder"
        )

    def _lower_limit(self, reference: float) -> None:
        """Sets the limit over a loss that was reached; the noise is that between neighbours, which no trend enters."""
        self._lowest = reference
        values = [math.log(loss) for loss in self._losses] if self._positive else list(self._losses)
        steps = [abs(after - before) for before, after in pairwise(values)]
        spread = 1.05 * statistics.median(steps)  # σ of normal noise, whose neighbours differ by σ√2
        if self._positive:
            self._limit = reference * math.exp(max(LOSS_SPREADS * spread, math.log1p(LOSS_RISE)))
        else:
            self._limit = reference + max(LOSS_SPREADS * spread, LOSS_RISE * abs(reference))


class GradientSpike:
    """A gradient's norm is far above its running median."""

    name = "gradient_spike"

    def __init__(self) -> None:
        self._norms: deque[float] = deque(maxlen=SPIKE_WINDOW)

    def observe(self, step: int, figures: Mapping[str, float]) -> str | None:
        norm = figures.get("grad_norm")
        if norm is None or not math.isfinite(norm):
            return None
        median = statistics.median(self._norms) if len(self._norms) >= SPIKE_PATIENCE else math.inf
        self._norms.append(norm)
        if norm <= SPIKE_FACTOR * median:
            return None
        return f"the gradient's norm {norm:.4g} is {norm / median:.0f} times its running median: look at these rows"


class NoGradient:
    """Gradient exactly 0 several times, the same loss to the last bit for long, or learning rate 0 at the start.

    Where the steps were skipped, the cause is known: no response was better than another."""

    name = "no_gradient"

    def __init__(self) -> None:
        self._no_gradient = self._skipped = 0
        self._same_loss = 1
        self._loss: float | None = None
        self._first = True

    def observe(self, step: int, figures: Mapping[str, float]) -> str | None:
        loss = figures.get("loss")
        if loss is None:
            return None
        first, self._first = self._first, False
        self._no_gradient = self._no_gradient + 1 if figures.get("grad_norm") == 0 else 0
        skipped = "skipped" in figures
        self._skipped = self._skipped + 1 if skipped else 0
        self._same_loss = self._same_loss + 1 if loss == self._loss and not skipped else 1
        self._loss = loss
        if first and figures.get("learning_rate") == 0:
            return "the learning rate of the first step is 0: it changes nothing"
        if self._skipped == NO_GRADIENT:
            return (
                f"all responses to a prompt get the same reward, for {NO_GRADIENT} steps, which were skipped: the task "
                "is too easy or too hard for this model, or the reward does not tell answers apart (samples.jsonl)"
            )
        if self._no_gradient == NO_GRADIENT and not self._skipped:
            return f"the gradient is exactly 0 for {NO_GRADIENT} steps: nothing depends on the trained weights"
        if self._same_loss == SAME_LOSS:
            return f"the loss is the same to the last bit for {SAME_LOSS} steps: nothing is learned, or rows repeat"
        return None


class Slowness:
    """Tokens per second stay far below their running median; once until the speed is back."""

    name = "slowness"

    def __init__(self) -> None:
        self._speeds: deque[float] = deque(maxlen=SLOW_WINDOW)
        self._slow = 0

    def observe(self, step: int, figures: Mapping[str, float]) -> str | None:
        speed = figures.get("tokens_per_second")
        if speed is None:
            return None
        usual = statistics.median(self._speeds) if len(self._speeds) == SLOW_WINDOW else 0.0
        if speed * SLOWER >= usual:
            self._slow = 0
            self._speeds.append(speed)
            return None
        self._slow += 1
        if self._slow != SLOW_PATIENCE:
            return None
        return (
            f"{speed:,.0f} tokens/s for {SLOW_PATIENCE} steps, {usual:,.0f} were usual: "
            "is the machine shared, hot, or short of memory?"
        )


class LogprobsFall:
    """The log-probabilities of chosen and of rejected responses both fall: the contrast is won by moving away from
    both, and what rises instead is in no data (arXiv 2410.08847); once until one of them is back.

    On held-out rows they are compared with their first values. In training every step has other rows: a window of
    steps is compared with the first ones, by the spread of both.
    """

    name = "logprobs_fall"

    def __init__(self) -> None:
        self._first: dict[str, list[float]] = {name: [] for name in _BOTH}
        self._last: dict[str, deque[float]] = {name: deque(maxlen=FALL_WINDOW) for name in _BOTH}
        self._held_out: tuple[float, ...] | None = None
        self._fallen = {"train": False, "eval": False}

    def observe(self, step: int, figures: Mapping[str, float]) -> str | None:
        measured = tuple(figures[f"eval/{name}"] for name in _BOTH if f"eval/{name}" in figures)
        if len(measured) == len(_BOTH):
            self._held_out = self._held_out or measured
            falls = [before - now for before, now in zip(self._held_out, measured, strict=True)]
            return self._tell("eval", "held-out", falls, [FALL_NATS] * len(_BOTH))
        if not all(name in figures for name in _BOTH):
            return None
        for name in _BOTH:
            early = self._first[name]
            (early if len(early) < FALL_WINDOW else self._last[name]).append(figures[name])
        if len(self._last[_BOTH[0]]) < FALL_WINDOW:
            return None
        windows = [(self._first[name], self._last[name]) for name in _BOTH]
        falls = [statistics.fmean(first) - statistics.fmean(last) for first, last in windows]
        spreads = [math.sqrt((statistics.variance(a) + statistics.variance(b)) / FALL_WINDOW) for a, b in windows]
        return self._tell("train", "training", falls, [max(FALL_NATS, FALL_SPREADS * each) for each in spreads])

    def _tell(self, where: str, words: str, falls: Sequence[float], limits: Sequence[float]) -> str | None:
        was, self._fallen[where] = self._fallen[where], all(f > most for f, most in zip(falls, limits, strict=True))
        if was or not self._fallen[where]:
            return None
        return (
            f"log-probabilities of {words} responses fall, chosen by {falls[0]:.3g} and rejected by {falls[1]:.3g} "
            "nats: lower learning_rate, raise beta, or add likelihood (loss={dpo: 1, sft: 0.1})"
        )


def training_rules() -> list[Rule]:
    """Those of any training."""
    return [NotFinite(), NoGradient(), Divergence(), GradientSpike(), Slowness(), LogprobsFall()]


def rl_rules() -> list[Rule]:
    """Those of learning by trying; they read figures ``rollout/…`` alone."""
    return [rule() for rule in RL_ALERTS]


class Alerts:
    """All rules over the lines of one stage."""

    def __init__(self, history: Iterable[Line] = (), rules: Sequence[Rule] | None = None) -> None:
        """
        Args:
            history: lines that an earlier process has shown to its own alerts.
            rules: None: all.
        """
        self._rules = (*training_rules(), *rl_rules()) if rules is None else rules
        self._counts: Counter[str] = Counter()
        for line in history:
            self.observe(line)

    def observe(self, line: Line) -> list[Alert]:
        """The signs that this line adds. Lines that are alerts themselves have no figures, and add none."""
        step = line["step"]
        assert isinstance(step, int), f"every line has a step, got {step!r}"
        figures = _figures(line)
        found = []
        for rule in self._rules:
            if (message := rule.observe(step, figures)) is not None:
                self._counts[rule.name] += 1
                found.append(Alert(rule.name, step, message, self._counts[rule.name]))
        return found


def worth_telling(alert: Alert) -> bool:
    """The first time, the tenth, the hundredth …: a sign that keeps coming does not fill the screen."""
    return alert.count == 10 ** round(math.log10(alert.count))


def _figures(line: Line) -> dict[str, float]:
    """Numbers of a line under the names that people know; null, which stands for what is not finite, as NaN."""
    if "alert" in line:
        return {}
    numbers = {name: math.nan if value is None else value for name, value in line.items() if name != "step"}
    return {name.removeprefix("train/"): value for name, value in numbers.items() if isinstance(value, int | float)}
