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
    from burnish.recipe.data import read_conversion, sources

    conversion = read_conversion({"path": data, "format": format}, settings or [])
    opened = open_data(sources(conversion), seed=conversion.seed, stage=None)
    for line in opened.lines():
        typer.echo(line)
    written = write_canonical(opened, output, conversion.max_unusable)
    for place in written.unusable[:5]:
        typer.echo(f"  left out: {place}")
    left_out = f", {len(written.unusable):,} left out" if written.unusable else ""
    typer.echo(f"{output}: {written.num_rows:,} rows{left_out}")
