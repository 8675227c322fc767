"""Command `burnish check`: tests invariants on the user's model and data before a run, one line each.

Registered by `cli`, and like it quick to import: nothing heavy is imported before the command runs.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:  # torch and transformers take seconds to import
    from burnish.checks.subject import Subject
    from burnish.checks.suite import Check
    from burnish.checks.verdict import CheckResult
    from burnish.recipe.read import ResolvedRecipe

_MARKS = {True: ("✓", "PASS"), False: ("✗", "FAIL"), None: ("–", "SKIP")}
"""Result of a check → its mark on a terminal, and elsewhere."""
_COLORS = {True: "green", False: "red", None: "bright_black"}
_WIDTH = 17
"""Width of the names of checks, characters."""


def check(
    recipe: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE] [KEY=VALUE]...", help="A recipe in YAML, and settings that override it."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model, instead of a recipe: a hub name or a folder.")] = None,
    data: Annotated[str | None, typer.Option(help="Data of `burnish sft`, instead of a recipe.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Start even if it takes long or much memory.")] = False,
    output: Annotated[Path | None, typer.Option("--json", help="Also write the results to this file.")] = None,
) -> None:
    """Check a recipe's model and data before a run: gradients, packing, saving, resuming, rewards."""
    from burnish.checks.subject import Subject

    resolved = _read(recipe or [], model, data)
    with tempfile.TemporaryDirectory(prefix="burnish-check-") as folder:
        lines = _run(Subject(resolved, Path(folder)), yes)
    if output is not None:
        output.write_text(json.dumps(lines, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    failed = sum(line["passed"] is False for line in lines)
    passed = sum(line["passed"] is True for line in lines)
    typer.echo(f"{passed} passed, {failed} failed, {len(lines) - passed - failed} with nothing to check")
    raise typer.Exit(1 if failed else 0)


def _read(given: list[str], model: str | None, data: str | None) -> ResolvedRecipe:
    from burnish.recipe.read import read_recipe, stage_recipe

    if model is not None and data is not None:
        return stage_recipe("sft", {"model": model, "data": data}, given)
    if model is not None or data is not None or not given or "=" in given[0]:
        raise typer.BadParameter("give a recipe, or --model and --data")
    return read_recipe(Path(given[0]), given[1:])


def _run(subject: Subject, yes: bool) -> list[dict[str, Any]]:
    """Runs all checks, and prints each result as it comes."""
    from burnish.checks.cost import estimate
    from burnish.checks.suite import OF_MODEL, OF_PROMPTS, OF_ROWS
    from burnish.recipe.read import stage_names
    from burnish.stages.determinism import out_of_memory_explained, repeatable

    names = stage_names(subject.recipe)
    lines = []
    for number, name in enumerate(names):
        if len(names) > 1:
            typer.echo(f"stage {name}:")
        stage = subject if number == 0 else replace(subject, number=number)
        lines += [
            _run_check(check, stage, name) for check in (OF_PROMPTS if stage.stage.rows_have == "prompts" else OF_ROWS)
        ]
    if reason := subject.kind.no_model_checks:
        typer.echo(f"the model: {reason}")
        return lines
    if len(names) > 1:
        typer.echo(f"stage {names[0]}, with its model (those of later stages do not exist yet):")
    cost = estimate(subject)
    typer.echo(f"the model: {cost.line()}")
    if not yes:
        cost.require_leave()
    recipe = subject.recipe
    with (
        repeatable(recipe.seed, only_deterministic=recipe.deterministic),
        out_of_memory_explained(subject.tokens_per_microbatch),
    ):
        return lines + [_run_check(check, subject, names[0]) for check in OF_MODEL]


def _run_check(check: Check, subject: Subject, stage: str) -> dict[str, Any]:
    start = time.perf_counter()
    verdict = check.verdict(subject)
    seconds = time.perf_counter() - start
    _print(check.name, verdict, seconds)
    return {"stage": stage, "check": check.name, **asdict(verdict), "seconds": round(seconds, 3)}


def _print(name: str, verdict: CheckResult, seconds: float) -> None:
    on_terminal = sys.stdout.isatty()
    mark = _MARKS[verdict.passed][0 if on_terminal else 1]
    typer.echo(f"{typer.style(mark, fg=_COLORS[verdict.passed])} {name:<{_WIDTH}} {verdict.measured} [{seconds:.1f} s]")
    for line in verdict.shown.splitlines():
        typer.echo(f"    {line}")
    if verdict.remedy:
        typer.echo(f"    to do: {verdict.remedy}")
