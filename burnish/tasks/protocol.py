"""What travels between the trainer's process and a worker's: `pool` on the one side, `worker` on the other.

Work goes out as pickles of our own records. Verdicts come back as JSON, so that no reward can make the trainer's
process run anything.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from burnish.tasks.response_view import ResponseView
from burnish.tasks.reward import Reward
from burnish.tasks.verdict import Failure, FailureKind, Outcome


@dataclass(frozen=True, slots=True)
class Work:
    """What a worker is started with."""

    rewards: tuple[Reward, ...]
    memory: int | None
    """Bytes of address space that it may have; None: no limit."""


@dataclass(frozen=True, slots=True)
class Request:
    """Answers to judge together: one, or all of a group."""

    answers: tuple[ResponseView, ...]
    parts: tuple[int, ...]
    """Indices of the rewards to ask, in this order; one reply for each."""


def ready_message() -> bytes:
    """The reply that the rewards are prepared."""
    return json.dumps({"ready": True}).encode()


def refusal_message(given: str, rule: str, remedy: str) -> bytes:
    """The reply that a reward cannot be used: the parts of a UserError."""
    return json.dumps({"refused": [given, rule, remedy]}).encode()


def verdict_message(part: int, outcomes: Sequence[Outcome]) -> bytes:
    """The reply to one part of a request."""
    plain = [[each.kind, each.detail] if isinstance(each, Failure) else each for each in outcomes]
    return json.dumps({"part": part, "outcomes": plain}).encode()


def outcomes_in(reply: dict[str, Any]) -> list[Outcome]:
    """The outcomes of a reply that was read as JSON."""
    return [Failure(FailureKind(each[0]), each[1]) if isinstance(each, list) else each for each in reply["outcomes"]]
