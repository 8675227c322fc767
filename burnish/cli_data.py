"""The verbs of `burnish data`: what can be done with a data set before anything is trained on it.

Registered by `cli`, and like it quick to import: nothing heavy is imported before a verb runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at data, and change its form.")


@app.callback()
def root() -> None:
    """Look at data, and change its form."""


@app.command()
def convert(
    data: Annotated[str, typer.Argument(help="A file, a folder, a pattern or a hub data set.")],
    output: Annotated[Path, typer.Option(help="The .jsonl file to write.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Such as columns.question=problem, count=500 or split=test."),
    ] = None,
    format: Annotated[str | None, typer.Option(help="Name of the rows' format. Default: from their columns.")] = None,
) -> None:
    """Write any known format as canonical JSON lines."""
    from burnish.data.convert import write_canonical
    from burnish.data.mixture import open_data
    from burnish.settings.data import read_conversion, sources

    conversion = read_conversion({"path": data, "format": format}, settings or [])
    opened = open_data(sources(conversion), seed=conversion.seed, stage=None)
    for line in opened.lines():
        typer.echo(line)
    written = write_canonical(opened, output, conversion.max_invalid_fraction)
    for place in written.unusable[:5]:
        typer.echo(f"  left out: {place}")
    left_out = f", {len(written.unusable):,} left out" if written.unusable else ""
    typer.echo(f"{output}: {written.num_rows:,} rows{left_out}")


Model = Annotated[str, typer.Option(help="The model whose tokenizer and template write the rows: a name or a folder.")]
Settings = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="As the stage takes them, such as chat_template=chatml."),
]
Stage = Annotated[str, typer.Option(help="The stage that would learn from the rows: sft, prefer or reward.")]


@app.command()
def profile(
    data: Annotated[str, typer.Argument(help="A file, a folder, a pattern or a hub data set.")],
    model: Model,
    settings: Settings = None,
    stage: Stage = "sft",
    output: Annotated[Path | None, typer.Option(help="A folder for lengths.png and profile.html.")] = None,
) -> None:
    """Show lengths in tokens, what each max_length keeps and costs, turns, duplicates and scripts."""
    from rich.console import Console

    from burnish.data.cache import samples_of
    from burnish.data.profile import profile as profile_of
    from burnish.data.profile_page import ProfileTables, write_profile
    from burnish.stages.supervised_data import open_for_inspection
    from burnish.watch.counter import count_on_terminal

    opened = open_for_inspection(model, data, settings or [], stage)
    maker = opened.preparation.maker
    samples = samples_of(maker, told=count_on_terminal("rows made into tokens"))
    found = profile_of(maker, samples, opened.max_positions)
    console = Console(soft_wrap=True, highlight=False)
    for line in opened.lines():
        console.print(line, markup=False)
    console.print(ProfileTables(found))
    if output is not None:
        picture, page = write_profile(found, output)
        console.print(f"{page} and {picture} are written", markup=False)


@app.command()
def view(
    data: Annotated[str, typer.Argument(help="A file, a folder, a pattern or a hub data set.")],
    model: Model,
    settings: Settings = None,
    stage: Stage = "sft",
    index: Annotated[list[int] | None, typer.Option(help="Row, counted from 0; may be given several times.")] = None,
    search: Annotated[str | None, typer.Option(help="Rows that have this text.")] = None,
    longest: Annotated[int | None, typer.Option(min=1, help="So many rows with the most tokens.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Most rows to show, without --index and --longest.")] = 3,
    html: Annotated[Path | None, typer.Option(help="Write a page instead of showing them here.")] = None,
) -> None:
    """Show rows as they will be trained: what is learned is green, or in brackets without colours."""
    from rich.console import Console

    from burnish.data.cache import samples_of
    from burnish.data.view import longest_rows, page, rows_with, view_rows
    from burnish.stages.supervised_data import open_for_inspection
    from burnish.watch.counter import count_on_terminal

    if sum(choice is not None for choice in (index, search, longest)) > 1:
        raise typer.BadParameter("give one of --index, --search and --longest")
    opened = open_for_inspection(model, data, settings or [], stage)
    preparation, maker = opened.preparation, opened.preparation.maker
    rows = index or list(range(min(count, len(maker.rows))))
    if search is not None:
        rows = rows_with(maker, search, count)
    if longest is not None:
        rows = longest_rows(samples_of(maker, told=count_on_terminal("rows made into tokens")), longest)
    shown = [each for row in rows for each in view_rows(preparation, row)]
    if html is not None:
        html.write_text(page(maker.rows.source, shown), encoding="utf-8")
        typer.echo(f"{html}: {len(rows):,} rows")
        return
    console = Console(soft_wrap=True, highlight=False)
    for each in shown:
        console.print(each.text() if console.is_terminal else each.plain(), markup=False)
