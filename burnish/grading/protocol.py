"""Messages between the trainer's process (`pool`) and the worker processes (`worker`).

Requests are pickles of our own records. Outcomes come back as JSON, so that no reward can make the trainer's process
execute code.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from burnish.rewards.response_view import ResponseView
from burnish.rewards.reward import Reward
from burnish.rewards.verdict import Failure, FailureKind, LabelledOutcome, Outcome


@dataclass(frozen=True, slots=True)
class Work:
    """Rewards and memory limit that a worker is started with."""

    rewards: tuple[Reward, ...]
    memory: int | None
    """Limit of its address space, bytes; None: no limit."""


@dataclass(frozen=True, slots=True)
class Request:
    """Answers that are graded together: one, or all of a group."""

    answers: tuple[ResponseView, ...]
    parts: tuple[int, ...]
    """Indices of the rewards to call, in this order; one reply for each."""


def ready_message() -> bytes:
    """Reply that the rewards are prepared."""
    return json.dumps({"ready": True}).encode()


def refusal_message(given: str, rule: str, remedy: str) -> bytes:
    """Reply that a reward cannot be used: given, rule and remedy of a UserError."""
    return json.dumps({"refused": [given, rule, remedy]}).encode()


def verdict_message(part: int, outcomes: Sequence[Outcome]) -> bytes:
    """Reply to one part of a request."""
    plain = [[item.kind, item.detail] if isinstance(item, Failure) else plain_outcome(item) for item in outcomes]
    return json.dumps({"part": part, "outcomes": plain}).encode()


def outcomes_in(reply: dict[str, Any]) -> list[Outcome]:
    """Outcomes in a reply, from its JSON object."""
    return [
        Failure(FailureKind(item[0]), item[1]) if isinstance(item, list) else outcome_of(item)
        for item in reply["outcomes"]
    ]


def plain_outcome(given: float | None) -> object:
    """JSON value of an outcome: a number, null, or an object of a number with its label."""
    return {"number": float(given), "label": given.label} if isinstance(given, LabelledOutcome) else given


def outcome_of(value: Any) -> float | None:
    """Outcome of its JSON value.

    Raises:
        ValueError, KeyError, TypeError: it is no outcome.
    """
    if isinstance(value, dict):
        return LabelledOutcome(float(value["number"]), str(value["label"]))
    if value is None:
        return None
    if not isinstance(value, int | float):
        raise TypeError("verdicts are numbers or null, or have a number and a label")
    return float(value)
