"""Outcomes of rewards and verdicts of answers: numbers or typed failures.

A failure is not a number and never becomes reward 0: training leaves the response out and counts it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import SupportsFloat

from burnish.rounding import summed


class FailureKind(StrEnum):
    """Kind of a failure."""

    CRASH = "crash"
    """The reward raised an exception, or its process ended (a segmentation fault, os._exit)."""
    TIMEOUT = "timeout"
    """The timeout passed, and its process was killed."""
    UNREACHABLE = "unreachable"
    """A connection failed (such as to an LLM judge over the network)."""
    WRONG_TYPE = "wrong_type"
    """It returned something that is not a number: text, a list, a complex number."""
    NOT_FINITE = "not_finite"
    """It returned NaN or an infinity."""
    UNUSABLE_ROW = "unusable_row"
    """The row lacks what the reward needs, such as a reference."""
    SANDBOX = "sandbox"
    """The sandbox of programs failed, or could not run the row's tests; it says nothing of the response."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Outcome that is not a number. Example: ``Failure(FailureKind.TIMEOUT, "no verdict within 5 s")``."""

    kind: FailureKind
    detail: str
    """What happened, in one readable line."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


Outcome = float | Failure | None
"""A finite number; a failure; or None: the reward does not grade this answer."""


@dataclass(frozen=True, slots=True)
class StepReward:
    """Reward of one step of a response. Example: ``StepReward(end=17, reward=0.9)``."""

    end: int
    """Index in `ResponseView.text` of the last character of the step."""
    reward: float


class SteppedOutcome(float):
    """Outcome that is the sum of the rewards of steps: a number like any other, with the steps."""

    steps: tuple[StepReward, ...]

    def __new__(cls, steps: Sequence[StepReward]) -> SteppedOutcome:
        number = super().__new__(cls, summed(step.reward for step in steps))
        number.steps = tuple(steps)
        return number

    def __reduce__(self) -> tuple[type[SteppedOutcome], tuple[tuple[StepReward, ...]]]:
        return SteppedOutcome, (self.steps,)


class LabelledOutcome(float):
    """Outcome with a label that says what kind it is: a number like any other. Example: ``LabelledOutcome(0.0,
    "timeout")``."""

    label: str

    def __new__(cls, number: float, label: str) -> LabelledOutcome:
        labelled = super().__new__(cls, number)
        labelled.label = label
        return labelled

    def __reduce__(self) -> tuple[type[LabelledOutcome], tuple[float, str]]:
        return LabelledOutcome, (float(self), self.label)


@dataclass(frozen=True, slots=True)
class Label:
    """Label of an outcome. Example: ``Label("timeout", among=("passed", "wrong_answer", "timeout"))``."""

    name: str
    among: tuple[str, ...]
    """All labels that its reward gives; metrics have the share of each."""


class UnusableRow(Exception):  # noqa: N818 (it names the row, and becomes a failure of that name)
    """Raised by a reward if the row lacks what it needs. Becomes FailureKind.UNUSABLE_ROW."""


def outcome(result: object) -> Outcome:
    """Outcome for the return value of a reward function.

    None stays None. Numbers are everything that has ``__float__`` (int, float, Decimal, numpy's and torch's scalars);
    True and False are 1 and 0. Text never is a number, not even "1". A `LabelledOutcome` keeps its label.
    """
    if result is None:
        return None
    if not isinstance(result, SupportsFloat) or isinstance(result, str | bytes):
        return Failure(FailureKind.WRONG_TYPE, f"the reward is a {type(result).__name__}, not a number")
    try:
        number = float(result)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # RuntimeError: a tensor of many entries
        return Failure(FailureKind.WRONG_TYPE, f"{type(result).__name__} is not a number: {one_line(error)}")
    if not math.isfinite(number):
        return Failure(FailureKind.NOT_FINITE, f"the reward is {number}")
    return result if isinstance(result, LabelledOutcome) else number


def one_line(error: BaseException) -> str:
    """Type and message of an exception in one line of at most 300 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Outcomes of all rewards for one answer. Example: ``Verdict({"math": 1.0, "format": 0.0}, reward=1.0)``."""

    parts: Mapping[str, Outcome]
    """Outcome of each reward, by its name, in the order of the recipe."""
    reward: Outcome
    """The weighted sum. A failure if any part with a weight failed; None if no part with a weight graded the answer.
    Training leaves out both."""
    steps: tuple[StepReward, ...] = ()
    """Weighted rewards of steps, which are parts of the weighted sum and are credited one by one; (): none are."""
    labels: Mapping[str, Label] = field(default_factory=dict)
    """Label of each outcome that has one, by the name of its reward."""

    @property
    def failures(self) -> tuple[tuple[str, Failure], ...]:
        """(Name, failure) of every reward that failed, also those of weight 0."""
        return tuple((name, part) for name, part in self.parts.items() if isinstance(part, Failure))


def label_shares(verdicts: Iterable[Verdict]) -> dict[str, float]:
    """Share of each label among the outcomes of a reward that have one, as ``METRIC/LABEL``; 0 of those that none has.

    Example: ``{"code/passed": 0.75, "code/wrong_answer": 0.25, "code/timeout": 0.0}``.
    """
    labels: dict[str, list[Label]] = {}
    for name, label in (entry for verdict in verdicts for entry in verdict.labels.items()):
        labels.setdefault(name, []).append(label)
    shares: dict[str, float] = {}
    for name, given in labels.items():
        counts = Counter(label.name for label in given)
        among = dict.fromkeys(label for each in given for label in each.among)
        shares |= {f"{name}/{label}": counts[label] / len(given) for label in among}
    return shares


def count_failures(verdicts: Iterable[Verdict]) -> Counter[tuple[str, FailureKind]]:
    """Number of failures by name of the reward and kind."""
    return Counter((name, failure.kind) for verdict in verdicts for name, failure in verdict.failures)


def failure_lines(verdicts: Sequence[Verdict]) -> dict[tuple[str, FailureKind], str]:
    """A readable line for each reward and kind of failure, the most frequent first, with what the first one said.

    Example: ``reward level: crash on 3 of 8 responses, the first: KeyError: 'text' (rewards.py line 2)``.
    """
    first: dict[tuple[str, FailureKind], str] = {}
    for name, failure in (entry for verdict in verdicts for entry in verdict.failures):
        first.setdefault((name, failure.kind), failure.detail)
    return {
        (name, kind): f"reward {name}: {kind} on {count} of {len(verdicts)} responses, the first: {first[name, kind]}"
        for (name, kind), count in count_failures(verdicts).most_common()
    }
