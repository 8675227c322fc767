"""Command `burnish quickstart`: runs a recipe of the package, and shows the model before and after.

Registered by `cli`, and like it quick to import. It knows no stage by name: it shows the contents of the run folder,
as the report does, and the abilities of each stage's model on the built-in questions.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # rich and jinja2 take a while to import
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from burnish.verbs.retention import Retention
    from burnish.watch.journal_lines import EvalSample
    from burnish.watch.report import PromptSamples, StageReport

RECIPE = Path(__file__).parents[1] / "builtin" / "quickstart.yaml"
NUM_SAMPLES = 8
"""Number of questions of a stage in the terminal; the report has more."""
_MAX_CHARACTERS = 120
"""Maximum number of characters of an answer in the terminal."""


def quickstart(
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings that override the recipe.")
    ] = None,
    output: Annotated[str | None, typer.Option(help="Run folder. Default: runs/quickstart.")] = None,
    show: Annotated[bool, typer.Option("--print", help="Print the recipe, and run nothing.")] = False,
    browse: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the report in a browser, if there is a screen.")
    ] = True,
) -> None:
    """Train the built-in base model, and show it before and after. The same command again resumes, or shows the
    result."""
    if show:
        typer.echo(RECIPE.read_text(encoding="utf-8"), nl=False)
        return
    # The model is so small that threads mostly wait for each other: on a busy machine with two cores a step took 7 s
    # with two threads and 0.3 s with one. torch reads the variable when it is imported, which is below.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from rich.console import Console

    from burnish.recipe.read import read_recipe
    from burnish.runs.numbered import in_own_folder
    from burnish.stages.run import run
    from burnish.verbs.retention import measure_retention
    from burnish.watch.report import NAME, read_stages

    overrides = [*(settings or []), *([f"output={output}"] if output else [])]
    result = run(in_own_folder(read_recipe(RECIPE, overrides)))
    folder = _relative(result.folder)
    console = Console(soft_wrap=False, highlight=False)
    if result.again:
        console.print(f"{folder} is finished already; its result:", markup=False)
    stages = read_stages(result.folder)
    for stage in stages:
        _show(console, stage)
    console.print()
    console.print(_retention_table(measure_retention(result.folder, [stage.name for stage in stages])))
    report = result.folder / NAME
    typer.echo(f"\nThe whole report: {folder / NAME}")
    for line in _next_commands(folder):
        typer.echo(line)
    if browse and sys.stdout.isatty() and _has_screen():
        typer.launch(report.as_uri())


def _show(console: Console, stage: StageReport) -> None:
    """Prints questions with the first and the last answer, and the stage's metrics before and after."""
    console.print()
    if stage.samples:
        console.print(_table(stage.name, stage.samples))
    for headline in stage.headlines:
        if headline.before:
            console.print(f"{headline.title}: {headline.before} before, {headline.value} after", markup=False)


def _table(name: str, samples: Sequence[PromptSamples]) -> Table:
    """Table of samples, evenly spaced over the file."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{name}: held-out questions, before and after", title_justify="left", show_lines=True)
    table.add_column("question", ratio=2)
    table.add_column("before", ratio=3, style="dim")
    table.add_column("after", ratio=3)
    for sample in samples[:: -(-len(samples) // NUM_SAMPLES)]:
        (_, before), (_, after) = sample.responses[0], sample.responses[-1]
        reference = sample.reference if after.correct is False else None
        table.add_row(Text(_shorten(sample.prompt)), _answer_text(before), _answer_text(after, reference))
    return table


def _retention_table(rows: Sequence[Retention]) -> Table:
    """Table of accuracies after each stage: gains and forgetting."""
    from rich.table import Table

    from burnish.verbs.retention import QUESTIONS

    table = Table(title=f"{QUESTIONS} questions of builtin:chat/test after each stage", title_justify="left")
    table.add_column("after")
    for column in ("facts right", "arithmetic right", "form right", "facts answered politely"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row.stage, *(f"{share:.0%}" for share in (row.facts, row.arithmetic, row.form, row.polite)))
    return table


def _answer_text(answer: EvalSample, reference: str | None = None) -> Text:
    """An answer with a mark for right or wrong, and with the reference answer if one is given."""
    from rich.text import Text

    mark, color = {True: ("✓ ", "green"), False: ("✗ ", "red"), None: ("", "")}[answer.correct]
    right = Text(f"\n(right: {_shorten(reference)})", style="dim") if reference else Text()
    return Text.assemble((mark, color), _shorten(answer.response), right)


def _shorten(text: str) -> str:
    """The text on one line, shortened. rich escapes control characters."""
    line = " ".join(text.split())
    return line if len(line) <= _MAX_CHARACTERS else f"{line[: _MAX_CHARACTERS - 1]}…"


def _next_commands(folder: Path) -> list[str]:
    """Lines with commands to continue with."""
    burnish = _command()
    commands = {
        f"{burnish} chat {folder}": "talk to it",
        f"{burnish} eval {folder} --data builtin:chat/test": "measure it",
        f"{burnish} quickstart --print > mine.yaml": "the recipe, to edit for your model and data",
        f"{burnish} check mine.yaml": "check it before the run",
        f"{burnish} run mine.yaml": "run it",
    }
    width = max(map(len, commands))
    return ["Next:", *(f"  {command:<{width}}   {purpose}" for command, purpose in commands.items())]


def _command() -> str:
    """The command that runs this program: its name if that is on the PATH, otherwise its path."""
    program = Path(sys.argv[0])
    on_path = shutil.which("burnish")
    if program.name != "burnish" or (on_path is not None and Path(on_path).resolve() == program.resolve()):
        return "burnish"
    return str(_relative(program.absolute()))


def _relative(path: Path) -> Path:
    """The path relative to the current folder, if it lies in it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _has_screen() -> bool:
    """Whether a browser can be opened: macOS and Windows have a screen; elsewhere a display server sets a variable."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
