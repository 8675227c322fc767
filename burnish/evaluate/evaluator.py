"""Protocol of evaluators, which measure the policy during training.

The loop calls every evaluator at each evaluation and writes its result to metrics.jsonl and samples.jsonl.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from burnish.model.policy import Model
from burnish.watch.journal_lines import EvalSample
from burnish.watch.parts import OnPart, no_report


@dataclass(frozen=True, slots=True)
class EvalResult:
    """Metrics and samples of an evaluator."""

    figures: Mapping[str, Tensor | float]
    """Name → scalar, such as ``loss`` or ``accuracy``; metrics.jsonl puts ``eval/`` before it."""
    samples: Sequence[EvalSample] = ()


class Evaluator(Protocol):
    """Measures the policy without side effects: weights, modes and all random generators stay as they were. The same
    weights give the same result."""

    def evaluate(self, policy: Model, on_part: OnPart = no_report) -> EvalResult:
        """Evaluates the policy; `on_part` is told how far the evaluation is."""
        ...
