"""All checks in their order, and running them. What `burnish check` does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from burnish.checks.laws import gradients_are_invariant, packed_equals_plain
from burnish.checks.prompts import prompts_are_usable, rewards_tell_right_from_wrong
from burnish.checks.resuming import same_bits_after_a_kill
from burnish.checks.rows import begins_once, ends_are_learned, rows_are_usable, the_answer_is_learned
from burnish.checks.saving import generation_stops, merged_is_the_same, saved_is_loaded
from burnish.checks.subject import Subject
from burnish.checks.verdict import REPORT, Verdict

BROKEN = (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError)
"""What a fault of a model or a library looks like; a user's mistake is a UserError, which ends the checks."""


@dataclass(frozen=True, slots=True)
class Check:
    """One invariant."""

    name: str
    """A few words, for its line."""
    run: Callable[[Subject], Verdict]
    """Its docstring says what is asked."""

    def verdict(self, subject: Subject) -> Verdict:
        """Asks. A check that breaks down has failed.

        Raises:
            UserError: the recipe, the data or the model cannot be used.
        """
        try:
            return self.run(subject)
        except BROKEN as error:
            reason = " ".join(str(error).split())[:300]
            return Verdict(False, f"broke down: {type(error).__name__}: {reason}", REPORT)


OF_ROWS = (
    Check("data", rows_are_usable),
    Check("what is learned", the_answer_is_learned),
    Check("ends of turns", ends_are_learned),
    Check("begin tokens", begins_once),
)
"""Need no weights."""

OF_PROMPTS = (
    Check("data", prompts_are_usable),
    Check("rewards", rewards_tell_right_from_wrong),
)
"""Of a stage that learns by trying, in the place of `OF_ROWS`; need no weights either."""

OF_MODEL = (
    Check("packed = plain", packed_equals_plain),
    Check("gradients", gradients_are_invariant),
    Check("save, load", saved_is_loaded),
    Check("merge", merged_is_the_same),
    Check("generation stops", generation_stops),
    Check("kill, resume", same_bits_after_a_kill),
)
"""Of a first stage that learns from answers in rows. What they cost is said beforehand, see `cost`."""
