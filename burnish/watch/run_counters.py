"""Counters of metrics.jsonl: epoch, samples, tokens and time of a stage so far, continued by a resumed run.

The loop counts every step; a checkpoint has the counts (see `burnish.runs`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from torch import Tensor

COUNTERS = ("epoch", "samples_seen", "tokens_seen", "wall_time_s")
"""Names in metrics.jsonl; they only rise, and are not drawn as curves."""


class RunCounters:
    """Counters of a stage since its first step.

    Example: ``seen.begin(); seen.count(samples=16, tokens=900, epoch=0.25)`` is ``{"epoch": 0.25, "samples_seen": 16,
    "tokens_seen": 900, "wall_time_s": 1.3}``.
    """

    def __init__(self) -> None:
        self._samples = 0
        self._tokens = 0
        self._seconds = 0.0
        """Seconds of earlier processes, up to the checkpoint from which the run was resumed."""
        self._since: float | None = None

    def begin(self) -> None:
        """Starts the clock at the first step of this process."""
        self._since = time.perf_counter()

    def count(self, *, samples: int, tokens: int, epoch: float) -> dict[str, float]:
        """Adds a step.

        Args:
            samples: number of responses that the step trained on.
            tokens: packed tokens of the step, as in `Meter.record`.
            epoch: passes over the data so far.

        Returns:
            Counters of the line, with the names of `COUNTERS`.
        """
        self._samples += samples
        self._tokens += tokens
        values = (epoch, self._samples, self._tokens, self._wall_time())
        return dict(zip(COUNTERS, values, strict=True))

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """State for a checkpoint: tensors and JSON values."""
        return {}, {"samples": self._samples, "tokens": self._tokens, "seconds": self._wall_time()}

    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Restores the result of `state_dict`."""
        self._samples, self._tokens, self._seconds = values["samples"], values["tokens"], values["seconds"]

    def _wall_time(self) -> float:
        """Seconds of training, evaluations and checkpoints included."""
        return self._seconds + (0.0 if self._since is None else time.perf_counter() - self._since)
