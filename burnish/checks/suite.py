"""List of all checks in their order, run by `burnish check`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from burnish.checks.code_tasks import code_tasks_are_sound
from burnish.checks.laws import gradients_are_invariant, packed_equals_plain
from burnish.checks.prompts import prompts_are_usable, rewards_distinguish_answers
from burnish.checks.resuming import same_bits_after_a_kill
from burnish.checks.rows import answers_are_trained, begins_once, rows_are_usable, turn_ends_are_trained
from burnish.checks.saving import generation_stops, merged_is_the_same, saved_is_loaded
from burnish.checks.subject import Subject
from burnish.checks.verdict import REPORT, CheckResult

BROKEN = (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError)
"""Errors that count as a failed check; a user's mistake is a UserError, which ends the checks."""


@dataclass(frozen=True, slots=True)
class Check:
    """Check of one invariant."""

    name: str
    """Label of its line."""
    run: Callable[[Subject], CheckResult]
    """Function of the check; its docstring states the invariant."""

    def verdict(self, subject: Subject) -> CheckResult:
        """Runs the check. A check that raises an error of `BROKEN` has failed.

        Raises:
            UserError: the recipe, the data or the model cannot be used.
        """
        try:
            return self.run(subject)
        except BROKEN as error:
            reason = " ".join(str(error).split())[:300]
            return CheckResult(False, f"error: {type(error).__name__}: {reason}", REPORT)


OF_ROWS = (
    Check("data", rows_are_usable),
    Check("trained tokens", answers_are_trained),
    Check("ends of turns", turn_ends_are_trained),
    Check("begin tokens", begins_once),
)
"""Checks of rows, without weights."""

OF_PROMPTS = (
    Check("data", prompts_are_usable),
    Check("rewards", rewards_distinguish_answers),
    Check("code tasks", code_tasks_are_sound),
)
"""Checks of a stage `rl`, instead of `OF_ROWS`; without weights too."""

OF_MODEL = (
    Check("packed = plain", packed_equals_plain),
    Check("gradients", gradients_are_invariant),
    Check("save, load", saved_is_loaded),
    Check("merge", merged_is_the_same),
    Check("generation stops", generation_stops),
    Check("kill, resume", same_bits_after_a_kill),
)
"""Checks of the first stage's model, if its rows have responses. `cost` estimates their cost before they run."""
