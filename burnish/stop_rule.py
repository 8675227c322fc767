"""When a stage ends before its last step, as settings. Needs no torch; `stopping` keeps to it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StopRule:
    """What ends a stage early. Example: ``StopRule(evaluations=3, minimum_delta=0.01)``."""

    evaluations: int | None = None
    """So many evaluations one after the other without improvement end it, at least 1; None: nothing does."""
    minimum_delta: float = 0.0
    """A figure that is better than the one of the last improvement by more than this is an improvement, >= 0."""
    keep_best: bool = False
    """The stage hands on the weights with the best figure; False: the last ones."""
    figure: str = "loss"
    """The held-out figure that says what is better."""
    rises: bool = False
    """Whether more of it is better."""
    alerts: frozenset[str] = frozenset()
    """Names of alerts that end it."""
