"""Command `burnish check`: tests invariants on the user's model and data before a run, one line each.

Registered by `cli`, and like it quick to import: nothing heavy is imported before the command runs.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # torch and transformers take seconds to import
    from burnish.checks.run import CheckLine
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
    """Check a recipe's model and data before a run. Gradients, packing, saving, resuming, rewards."""
    from burnish.checks.run import run_checks
    from burnish.checks.subject import Subject

    resolved, lines = _read(recipe or [], model, data), []
    with tempfile.TemporaryDirectory(prefix="burnish-check-") as folder:
        for line in run_checks(Subject(resolved, Path(folder)), yes=yes, say=typer.echo):
            _print(line)
            lines.append({"stage": line.stage, "check": line.check, **asdict(line.verdict)})
            lines[-1]["seconds"] = round(line.seconds, 3)
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


def _print(line: CheckLine) -> None:
    verdict, on_terminal = line.verdict, sys.stdout.isatty()
    mark = _MARKS[verdict.passed][0 if on_terminal else 1]
    colored = typer.style(mark, fg=_COLORS[verdict.passed])
    typer.echo(f"{colored} {line.check:<{_WIDTH}} {verdict.measured} [{line.seconds:.1f} s]")
    for shown in verdict.shown.splitlines():
        typer.echo(f"    {shown}")
    if verdict.remedy:
        typer.echo(f"    to do: {verdict.remedy}")
