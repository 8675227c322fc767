"""Alert for a student that does not come nearer to its teacher. Pure; it is a rule of `alerts`."""

from __future__ import annotations

from collections.abc import Mapping

EVALUATIONS = 3
"""Evaluations after the first one before the gap can be said not to close."""
CLOSED = 0.1
"""Share of the first divergence by which it has to be smaller."""
NEAR = 0.01
"""Divergence, nats per token, below which student and teacher are the same to begin with."""


class TeacherGap:
    """The KL divergence from the teacher on held-out prompts stays above nine tenths of its first value, at three
    evaluations in a row. Raised once per episode."""

    name = "teacher_gap"

    def __init__(self) -> None:
        self._first: float | None = None
        self._open = 0

    def observe(self, step: int, metrics: Mapping[str, float]) -> str | None:
        value = metrics.get("eval/teacher_kl")
        if value is None:
            return None
        if self._first is None:
            self._first = value
            return None
        closes = value <= (1 - CLOSED) * self._first or self._first < NEAR
        self._open = 0 if closes else self._open + 1
        if self._open != EVALUATIONS:
            return None
        return (
            f"the gap to the teacher does not close: KL divergence {value:.3g} nats per token on held-out prompts, "
            f"{self._first:.3g} at first; raise learning_rate or the number of steps, see whether student and teacher "
            "have the same chat template, or begin with response_source: teacher"
        )
