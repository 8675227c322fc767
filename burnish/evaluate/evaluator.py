"""Who looks at a policy in training: the loop has evaluators, asks each where it evaluates, and knows none by name.

Stands before `held_out` and `exam`, which are evaluators; the loop writes what they find where it belongs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from burnish.model.policy import Model


@dataclass(frozen=True, slots=True)
class EvalSample:
    """An answer that is kept, as a line of samples.jsonl has it after stage and step."""

    index: int
    """Of the prompt: the same one has the same at every step of a stage."""
    prompt: str
    """For people, without a template's marks."""
    response: str
    """From its beginning, also where that stands in the prompt: an opened thought, a prefix."""
    reference: str | None
    """The right answer, or one; None: there is none."""
    correct: bool | None
    """None: nobody judged."""


@dataclass(frozen=True, slots=True)
class EvalResult:
    """What an evaluator found."""

    figures: Mapping[str, Tensor | float]
    """Name → scalar, such as ``loss`` or ``accuracy``; metrics.jsonl puts ``eval/`` before it."""
    samples: Sequence[EvalSample] = ()


class Evaluator(Protocol):
    """Looks at the policy, which goes on as if nobody had: weights, modes and all random generators are left as they
    were. The same weights give the same findings."""

    def evaluate(self, policy: Model) -> EvalResult:
        """Looks, and tells."""
        ...
