"""Commands of `burnish data`: convert, profile and view a dataset before training.

Registered by `cli`, and like it quick to import: nothing heavy is imported before a command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Inspect and convert datasets.")


@app.callback()
def root() -> None:
    """Inspect and convert datasets."""


@app.command()
def convert(
    data: Annotated[str, typer.Argument(help="A file, a folder, a pattern or a hub dataset.")],
    output: Annotated[Path, typer.Option(help="The .jsonl file to write.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings, such as columns.question=problem or count=500."),
    ] = None,
    format: Annotated[str | None, typer.Option(help="Format of the rows. Default: recognized by the columns.")] = None,
) -> None:
    """Convert a dataset of any known format to canonical JSON lines."""
    from burnish.data.convert import write_canonical
    from burnish.data.mixture import open_data
    from burnish.settings.data import read_conversion, sources

    conversion = read_conversion({"path": data, "format": format}, settings or [])
    opened = open_data(sources(conversion), seed=conversion.seed, stage=None)
    for line in opened.lines():
        typer.echo(line)
    result = write_canonical(opened, output, conversion.max_invalid_fraction)
    for row in result.unusable[:5]:
        typer.echo(f"  left out: {row}")
    left_out = f", {len(result.unusable):,} left out" if result.unusable else ""
    typer.echo(f"{output}: {result.num_rows:,} rows{left_out}")


Model = Annotated[str, typer.Option(help="Model whose tokenizer and chat template are used: a hub name or a folder.")]
Settings = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings of the stage, such as chat_template=chatml."),
]
Stage = Annotated[str, typer.Option(help="Stage that would train on the rows: sft, prefer or reward.")]


@app.command()
def profile(
    data: Annotated[str, typer.Argument(help="A file, a folder, a pattern or a hub dataset.")],
    model: Model,
    settings: Settings = None,
    stage: Stage = "sft",
    output: Annotated[Path | None, typer.Option(help="Folder for lengths.png and profile.html.")] = None,
) -> None:
    """Show a dataset's statistics: lengths in tokens, effect and cost of each max_length, turns, duplicates,
    scripts."""
    from rich.console import Console

    from burnish.data.profile_page import ProfileTables, write_profile
    from burnish.verbs.inspect import profile as profile_of

    data_profile = profile_of(model, data, stage=stage, overrides=settings or [])
    console = Console(soft_wrap=True, highlight=False)
    for line in data_profile.lines:
        console.print(line, markup=False)
    console.print(ProfileTables(data_profile.statistics))
    if output is not None:
        picture, page = write_profile(data_profile.statistics, output)
        console.print(f"{page} and {picture} are written", markup=False)


@app.command()
def view(
    data: Annotated[str, typer.Argument(help="A file, a folder, a pattern or a hub dataset.")],
    model: Model,
    settings: Settings = None,
    stage: Stage = "sft",
    index: Annotated[list[int] | None, typer.Option(help="Index of a row, from 0; can be given several times.")] = None,
    search: Annotated[str | None, typer.Option(help="Text that rows must contain.")] = None,
    longest: Annotated[int | None, typer.Option(min=1, help="Number of rows with the most tokens to show.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Maximum number of rows, without --index and --longest.")] = 3,
    html: Annotated[Path | None, typer.Option(help="Write an HTML page instead of printing the rows.")] = None,
) -> None:
    """Show rows as they are trained: trained tokens are green (of a rejected response red), or in brackets without
    colors."""
    from rich.console import Console

    from burnish.verbs.inspect import view as view_of

    views = view_of(
        model,
        data,
        stage=stage,
        index=index or (),
        search=search,
        longest=longest,
        count=count,
        overrides=settings or [],
    )
    if html is not None:
        html.write_text(views.html(), encoding="utf-8")
        typer.echo(f"{html}: {len(views):,} samples")
        return
    console = Console(highlight=False)
    for row_view in views:
        if console.is_terminal:
            console.print(row_view.text())
        else:
            console.print(row_view.plain(), markup=False, soft_wrap=True)
