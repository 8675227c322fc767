"""Evaluator of a teacher's reward on held-out prompts: what the student could reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from burnish.evaluate.evaluator import EvalResult
from burnish.model.policy import Model
from burnish.watch.parts import OnPart, no_report

_KEPT = ("reward", "accuracy", "response_length")


@dataclass(eq=False)
class TeacherReward:
    """Evaluator of `teacher_reward`, `teacher_accuracy` and `teacher_response_length`, measured at the first evaluation
    of a process: the teacher does not change."""

    measure: Callable[[OnPart], EvalResult]
    """Grades the teacher's responses."""
    _figures: dict[str, float] | None = field(init=False, repr=False, default=None)

    def evaluate(self, policy: Model, on_part: OnPart = no_report) -> EvalResult:
        """The same numbers at every evaluation."""
        if self._figures is None:
            found = self.measure(on_part).figures
            self._figures = {f"teacher_{name}": float(found[name]) for name in _KEPT if name in found}
        return EvalResult(dict(self._figures))
