"""The verb `burnish quickstart`: a recipe that comes with the package is run, and what became of the model is shown.

Registered by `cli`, and like it quick to import. It knows no stage by name: it shows what the run folder
holds, as the report does, and what the model of each stage can do in the built-in world.
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
    from burnish.watch.report import GeneratedAnswer, Sample, StageReport

RECIPE = Path(__file__).parent / "builtin" / "quickstart.yaml"
SHOWN = 8
"""Questions of a stage in the terminal; the report has more."""
_LONGEST = 120
"""Characters of an answer in the terminal."""


def quickstart(
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Over the recipe, as `burnish run` takes them.")
    ] = None,
    output: Annotated[str | None, typer.Option(help="The run folder. Default: runs/quickstart.")] = None,
    show: Annotated[bool, typer.Option("--print", help="Print the recipe, and run nothing.")] = False,
    browse: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the report in a browser, if there is a screen.")
    ] = True,
) -> None:
    """Train the built-in base model, and see before and after. Again, it goes on, or shows what came out."""
    if show:
        typer.echo(RECIPE.read_text(encoding="utf-8"), nl=False)
        return
    # The model is so small that a second thread is mostly waited for: on a busy machine with two cores a step took 7 s
    # with two threads and 0.3 s with one. Read when torch is imported, which is below.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from rich.console import Console

    from burnish.recipe.read import read_recipe
    from burnish.stages.run import run
    from burnish.verbs.retention import measure_retention
    from burnish.watch.report import NAME, read_stages

    finished = run(read_recipe(RECIPE, settings or [], output))
    folder = _brief(finished.folder)
    console = Console(soft_wrap=False, highlight=False)
    if finished.again:
        console.print(f"{folder} is finished already: this is what came out.", markup=False)
    stages = read_stages(finished.folder)
    for stage in stages:
        _show(console, stage)
    console.print()
    console.print(_ledger(measure_retention(finished.folder, [stage.name for stage in stages])))
    report = finished.folder / NAME
    typer.echo(f"\nAll of it on one page: {folder / NAME}")
    for line in _next(folder):
        typer.echo(line)
    if browse and sys.stdout.isatty() and _has_screen():
        typer.launch(report.as_uri())


def _show(console: Console, stage: StageReport) -> None:
    """Questions with the first and the last answer, and what is measured before and after."""
    console.print()
    if stage.samples:
        console.print(_table(stage.name, stage.samples))
    for headline in stage.headlines:
        if headline.before:
            console.print(f"{headline.title}: {headline.before} before, {headline.value} after", markup=False)


def _table(name: str, samples: Sequence[Sample]) -> Table:
    """Some samples from all over the file."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{name}: held-out questions, before and after", title_justify="left", show_lines=True)
    table.add_column("question", ratio=2)
    table.add_column("before", ratio=3, style="dim")
    table.add_column("after", ratio=3)
    for sample in samples[:: -(-len(samples) // SHOWN)]:
        before, after = sample.answers[0], sample.answers[-1]
        wanted = sample.reference if after.correct is False else None
        table.add_row(Text(_cut(sample.prompt)), _told(before), _told(after, wanted))
    return table


def _ledger(rows: Sequence[Retention]) -> Table:
    """What was learned and what was forgotten, stage by stage."""
    from rich.table import Table

    from burnish.verbs.retention import QUESTIONS

    table = Table(title=f"{QUESTIONS} questions of builtin:chat/test after each stage", title_justify="left")
    table.add_column("after")
    for column in ("facts right", "arithmetic right", "form right", "facts told courteously"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row.stage, *(f"{share:.0%}" for share in (row.facts, row.arithmetic, row.form, row.courteous)))
    return table


def _told(answer: GeneratedAnswer, wanted: str | None = None) -> Text:
    """An answer with its verdict, and with the right one if that is wanted."""
    from rich.text import Text

    mark, colour = {True: ("✓ ", "green"), False: ("✗ ", "red"), None: ("", "")}[answer.correct]
    right = Text(f"\n(right: {_cut(wanted)})", style="dim") if wanted else Text()
    return Text.assemble((mark, colour), _cut(answer.response), right)


def _cut(text: str) -> str:
    """On one line, of bearable length. rich spells out control characters."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def _next(folder: Path) -> list[str]:
    """What to type now."""
    burnish = _command()
    rows = {
        f"{burnish} chat {folder}": "talk to it",
        f"{burnish} eval {folder} --data builtin:chat/test": "measure it",
        f"{burnish} quickstart --print > mine.yaml": "the recipe, to put your model and data in",
        f"{burnish} check mine.yaml": "try it before the run",
        f"{burnish} run mine.yaml": "run it",
    }
    width = max(map(len, rows))
    return ["Next:", *(f"  {command:<{width}}   {what}" for command, what in rows.items())]


def _command() -> str:
    """How this program is called from here: by its name, if that finds it."""
    called = Path(sys.argv[0])
    found = shutil.which("burnish")
    if called.name != "burnish" or (found is not None and Path(found).resolve() == called.resolve()):
        return "burnish"
    return str(_brief(called.absolute()))


def _brief(path: Path) -> Path:
    """Below the current folder without that folder's name."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _has_screen() -> bool:
    """macOS and Windows have one; elsewhere a display server says where it is."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
