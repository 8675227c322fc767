"""Settings of early stopping. Imports no torch; `early_stopping` applies them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StopRule:
    """Rule of early stopping. Example: ``StopRule(patience=3, min_delta=0.01)``."""

    patience: int | None = None
    """Number of consecutive evaluations without improvement that end the stage, at least 1; None: evaluations do not
    end it."""
    min_delta: float = 0.0
    """Minimum improvement over the last improvement, >= 0."""
    keep_best: bool = False
    """Whether the final model has the weights of the best evaluation; False: the last weights."""
    best_metric: str = "loss"
    """Held-out metric that is compared."""
    rises: bool = False
    """Whether a higher value is better."""
    alerts: frozenset[str] = frozenset()
    """Names of alerts that end the stage."""
