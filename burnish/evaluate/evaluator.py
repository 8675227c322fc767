"""Protocol of evaluators, which measure the policy during training.

The loop calls every evaluator at each evaluation and writes its result to metrics.jsonl and samples.jsonl.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from burnish.model.policy import Model


@dataclass(frozen=True, slots=True)
class EvalSample:
    """Evaluated answer, as a line of samples.jsonl after stage and step."""

    index: int
    """Index of the prompt, the same at every step of a stage."""
    prompt: str
    """Readable prompt, without the template's tokens."""
    response: str
    """Response from its beginning, generation prefix included."""
    reference: str | None
    """The right answer, or one; None: there is none."""
    correct: bool | None
    """None: not graded."""


@dataclass(frozen=True, slots=True)
class EvalResult:
    """Metrics and samples of an evaluator."""

    figures: Mapping[str, Tensor | float]
    """Name → scalar, such as ``loss`` or ``accuracy``; metrics.jsonl puts ``eval/`` before it."""
    samples: Sequence[EvalSample] = ()


class Evaluator(Protocol):
    """Measures the policy without side effects: weights, modes and all random generators stay as they were. The same
    weights give the same result."""

    def evaluate(self, policy: Model) -> EvalResult:
        """Evaluates the policy."""
        ...
