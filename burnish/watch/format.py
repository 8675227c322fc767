"""Titles and number formats of metrics for the terminal and the report, in the order of importance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MetricFormat:
    """Title and number format of one metric."""

    title: str
    """Title of its curve."""
    write: Callable[[float], str]
    """Formats a value, as on the curve's axis."""
    before: str = ""
    """Text before the value in a line of progress."""
    after: str = ""
    """Text after the value in a line of progress."""
    logarithmic: bool = False
    """Whether its curve has a logarithmic axis, if its values are positive and span enough powers of ten."""

    def progress_text(self, value: float) -> str:
        """Text of a value in a line of progress. Example: ``loss 1.235``."""
        return f"{self.before}{self.write(value)}{self.after}"

    @property
    def is_share(self) -> bool:
        """Whether values are between 0 and 1 and formatted as percent."""
        return self.write is percent


def short(value: float) -> str:
    """Number with four digits, or whole with separators. Example: 12,346, 1.235, 2e-05."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def brief(value: float) -> str:
    """Number with three digits. Example: 0.584, 12.3."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def percent(value: float) -> str:
    """Share as percent. Example: 41 %."""
    return f"{100 * value:.3g} %"


METRIC_FORMATS = {
    "rollout/reward": MetricFormat("Reward", short, before="reward "),
    "loss": MetricFormat("Loss", short, before="loss ", logarithmic=True),
    "accuracy": MetricFormat("Accuracy", percent, before="accuracy "),
    "rollout/response_length": MetricFormat("Response length", brief, after=" tokens long"),
    "pair_accuracy": MetricFormat("Pair accuracy", percent, before="pairs right "),
    "pair_accuracy_length_controlled": MetricFormat(
        "Pair accuracy, length controlled", percent, before="length controlled "
    ),
    "pair_accuracy_by_logprob": MetricFormat("Pair accuracy by log-probability", percent, before="by logprob "),
    "teacher_kl": MetricFormat("KL to the teacher, per token", brief, before="teacher KL "),
    "teacher_agreement": MetricFormat("Agreement with the teacher", percent, before="agreement "),
    "reward": MetricFormat("Reward", short, before="reward "),
    "teacher_accuracy": MetricFormat("Accuracy of the teacher", percent, before="teacher's accuracy "),
    "student_entropy": MetricFormat("Entropy of the student", brief, before="entropy "),
    "start_kl": MetricFormat("KL from the start, per token", brief, before="start KL "),
    "start_kl_per_response": MetricFormat("KL from the start, per response", brief, before="per response "),
    "epoch": MetricFormat("Epoch", short, before="epoch "),
    "tokens_per_second": MetricFormat("Tokens per second", short, after=" tokens/s"),
    "mfu": MetricFormat("Model-FLOP utilization", percent, after=" of peak"),
    "learning_rate": MetricFormat("Learning rate", brief, before="lr "),
    "grad_norm": MetricFormat("Gradient norm", brief, before="grad ", logarithmic=True),
    "memory_gib": MetricFormat("Peak memory, GiB", brief, after=" GiB"),
    "seconds_per_step": MetricFormat("Seconds per step", brief, after=" s/step"),
}


def metric_format(name: str) -> MetricFormat:
    """Format of a metric, also of one that is not in the table. `name` is without ``train/``."""
    words = name.replace("_", " ")
    return METRIC_FORMATS.get(name) or MetricFormat(words[:1].upper() + words[1:], short, before=f"{words} ")


def rank(name: str) -> tuple[int, str]:
    """Sort key of metrics: those of the table first, others by name."""
    names = list(METRIC_FORMATS)
    return (names.index(name) if name in METRIC_FORMATS else len(names), name)


def progress_texts(metrics: Mapping[str, float]) -> tuple[str, ...]:
    """Texts for a line of progress, the most important first; ends of intervals are only in metrics.jsonl."""
    names = (name for name in sorted(metrics, key=rank) if not name.endswith(("_low", "_high")))
    return tuple(metric_format(name).progress_text(metrics[name]) for name in names)


def clock(seconds: float) -> str:
    """Duration in hours, minutes and seconds. Example: 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def shorten(text: str, width: int) -> str:
    """Text of at most `width` characters, at least one, whose middle gives way: a path keeps its ends.

    Example: ``shorten("/home/me/data/train.jsonl", 12)`` is ``/home….jsonl``.
    """
    if len(text) <= width:
        return text
    end = width // 2
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"
