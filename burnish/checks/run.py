"""Runs all checks of a recipe: those of the rows of every stage, then those of the first stage's model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from burnish.checks import suite
from burnish.checks.cost import estimate
from burnish.checks.subject import Subject
from burnish.checks.verdict import CheckResult
from burnish.recipe.read import stage_names
from burnish.stages.determinism import out_of_memory_explained, repeatable


@dataclass(frozen=True, slots=True)
class CheckLine:
    """Result of one check."""

    stage: str
    """Name of the stage in the recipe."""
    check: str
    """Name of the check."""
    verdict: CheckResult
    seconds: float

    def __str__(self) -> str:
        mark = {True: "PASS", False: "FAIL", None: "SKIP"}[self.passed]
        return f"{mark} {self.check}: {self.verdict.measured}"

    @property
    def passed(self) -> bool | None:
        """None: there was nothing to check."""
        return self.verdict.passed


def run_checks(subject: Subject, *, yes: bool, say: Callable[[str], None]) -> Iterator[CheckLine]:
    """Runs the checks, and yields each result as it comes.

    Args:
        subject: the recipe with a folder for files.
        yes: also start checks of the model that take long or much memory.
        say: gets lines between the results.

    Raises:
        CapacityError: the checks take long or much memory, and `yes` is not given.
        UserError: the recipe, the data or the model cannot be used.
    """
    names = stage_names(subject.recipe)
    for number, name in enumerate(names):
        if len(names) > 1:
            say(f"stage {name}:")
        stage = subject if number == 0 else replace(subject, number=number)
        yield from _results(suite.OF_PROMPTS if stage.stage.rows_have == "prompts" else suite.OF_ROWS, stage, name)
    if reason := subject.kind.no_model_checks:
        say(f"the model: {reason}")
        return
    if len(names) > 1:
        say(f"stage {names[0]}, with its model (those of later stages do not exist yet):")
    cost = estimate(subject)
    say(f"the model: {cost.line()}")
    if not yes:
        cost.require_leave()
    recipe = subject.recipe
    with (
        repeatable(recipe.seed, only_deterministic=recipe.deterministic),
        out_of_memory_explained(subject.tokens_per_microbatch),
    ):
        yield from _results(suite.OF_MODEL, subject, names[0])


def _results(checks: Sequence[suite.Check], subject: Subject, stage: str) -> Iterator[CheckLine]:
    for check in checks:
        start = time.perf_counter()
        verdict = check.verdict(subject)
        yield CheckLine(stage, check.name, verdict, time.perf_counter() - start)
