"""When a stage ends before its last step, as settings. Needs no torch; `stopping` keeps to it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StopRule:
    """What ends a stage early. Example: ``StopRule(patience=3, min_delta=0.01)``."""

    patience: int | None = None
    """So many evaluations one after the other without improvement end it, at least 1; None: nothing does."""
    min_delta: float = 0.0
    """A figure that is better than the one of the last improvement by more than this is an improvement, >= 0."""
    keep_best: bool = False
    """The stage hands on the weights with the best figure; False: the last ones."""
    best_metric: str = "loss"
    """The held-out figure that says what is better."""
    rises: bool = False
    """Whether more of it is better."""
    alerts: frozenset[str] = frozenset()
    """Names of alerts that end it."""
