"""How figures are called and written for people, on a terminal and in the report. The order is that of importance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """How one figure is shown."""

    title: str
    """Of its curve."""
    write: Callable[[float], str]
    """A value, as on the curve's axis."""
    before: str = ""
    """In a line of progress, before the value."""
    after: str = ""
    """In a line of progress, after the value."""
    logarithmic: bool = False
    """Whether its curve has a logarithmic axis if its values are positive and span enough powers of ten."""

    def told(self, value: float) -> str:
        """The value in a line of progress. Example: ``loss 1.235``."""
        return f"{self.before}{self.write(value)}{self.after}"

    @property
    def is_share(self) -> bool:
        """Whether values are between 0 and 1 and written as percent."""
        return self.write is percent


def short(value: float) -> str:
    """Four digits, or whole numbers with separators. Example: 12,346, 1.235, 2e-05."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def brief(value: float) -> str:
    """Three digits. Example: 0.584, 12.3."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def percent(value: float) -> str:
    """A share. Example: 41 %."""
    return f"{100 * value:.3g} %"


FIGURES = {
    "loss": Figure("Loss", short, before="loss ", logarithmic=True),
    "accuracy": Figure("Accuracy", percent, before="accuracy "),
    "pair_accuracy": Figure("Pair accuracy", percent, before="pairs right "),
    "pair_accuracy_length_controlled": Figure("Pair accuracy, length controlled", percent, before="length controlled "),
    "pair_accuracy_by_logprob": Figure("Pair accuracy by log-probability", percent, before="by logprob "),
    "rollout/reward": Figure("Reward", short, before="reward "),
    "rollout/response_length": Figure("Response length", brief, after=" tokens long"),
    "reward": Figure("Reward", short, before="reward "),
    "epoch": Figure("Epoch", short, before="epoch "),
    "tokens_per_second": Figure("Tokens per second", short, after=" tokens/s"),
    "mfu": Figure("Model-FLOP utilisation", percent, after=" of peak"),
    "learning_rate": Figure("Learning rate", brief, before="lr "),
    "grad_norm": Figure("Gradient norm", brief, before="grad ", logarithmic=True),
    "memory_gib": Figure("Most memory, GiB", brief, after=" GiB"),
    "seconds_per_step": Figure("Seconds per step", brief, after=" s/step"),
}


def figure(name: str) -> Figure:
    """How a figure is shown, also one that is not in the table. `name` has no ``train/`` before it."""
    words = name.replace("_", " ")
    return FIGURES.get(name) or Figure(words[:1].upper() + words[1:], short, before=f"{words} ")


def rank(name: str) -> tuple[int, str]:
    """What figures are ordered by: those of the table first, others by name."""
    names = list(FIGURES)
    return (names.index(name) if name in FIGURES else len(names), name)


def told_figures(figures: Mapping[str, float]) -> tuple[str, ...]:
    """Those for a line of progress, the most important first; the ends of intervals are left to metrics.jsonl."""
    told = (name for name in sorted(figures, key=rank) if not name.endswith(("_low", "_high")))
    return tuple(figure(name).told(figures[name]) for name in told)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds. Example: 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
