"""What a reward says of an answer: a number, or why there is none.

Above `answer`, below everything that judges. The law: a failure is not a number. It never becomes reward 0; whoever
learns leaves the sample out and counts it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import SupportsFloat


class FailureKind(StrEnum):
    """Why there is no number."""

    CRASH = "crash"
    """The reward raised an exception, or its process ended (a segmentation fault, os._exit)."""
    TIMEOUT = "timeout"
    """Its deadline passed, and its process was killed."""
    UNREACHABLE = "unreachable"
    """It could not reach what it asks (a judge behind the network)."""
    WRONG_TYPE = "wrong_type"
    """It gave something that is not a number: text, a list, a complex number."""
    NOT_FINITE = "not_finite"
    """It gave NaN or an infinity."""
    UNUSABLE_ROW = "unusable_row"
    """The row lacks what the reward needs, such as the right answer."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A verdict that is not a number. Example: ``Failure(FailureKind.TIMEOUT, "no verdict within 5 s")``."""

    kind: FailureKind
    detail: str
    """What happened, for people; one line."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


Outcome = float | Failure | None
"""A finite number; a failure; or None: the reward does not judge this answer (another one does)."""


class UnusableRow(Exception):  # noqa: N818 (it names the row, and becomes a failure of that name)
    """Raised by a verifier whose row lacks what it needs. Becomes FailureKind.UNUSABLE_ROW."""


def outcome(given: object) -> Outcome:
    """What a function gave, as an outcome.

    None stays None. Numbers are everything that has ``__float__`` (int, float, Decimal, numpy's and torch's scalars);
    True and False are 1 and 0. Text never is a number, not even "1".
    """
    if given is None:
        return None
    if not isinstance(given, SupportsFloat) or isinstance(given, str | bytes):
        return Failure(FailureKind.WRONG_TYPE, f"the reward is a {type(given).__name__}, not a number")
    try:
        number = float(given)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # RuntimeError: a tensor of many entries
        return Failure(FailureKind.WRONG_TYPE, f"{type(given).__name__} is no number: {one_line(error)}")
    if not math.isfinite(number):
        return Failure(FailureKind.NOT_FINITE, f"the reward is {number}")
    return number


def one_line(error: BaseException) -> str:
    """What an exception says, short enough for a line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


@dataclass(frozen=True, slots=True)
class Verdict:
    """All that was said of one answer. Example: ``Verdict({"math": 1.0, "format": 0.0}, reward=1.0)``."""

    parts: Mapping[str, Outcome]
    """Outcome of each reward, by its part's name, in the order of the recipe."""
    reward: Outcome
    """The weighted sum. A failure if any part with a weight failed; None if no part with a weight judged: both kinds
    of samples are left out."""

    @property
    def failures(self) -> tuple[tuple[str, Failure], ...]:
        """(Part, failure) of every part that failed, those without weight too."""
        return tuple((name, part) for name, part in self.parts.items() if isinstance(part, Failure))


def count_failures(verdicts: Iterable[Verdict]) -> Counter[tuple[str, FailureKind]]:
    """How often each part failed in each way; for metrics."""
    return Counter((name, failure.kind) for verdict in verdicts for name, failure in verdict.failures)
