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
    data: Annotated[str, typer.Argument(help="A file or a hub data set.")],
    output: Annotated[Path, typer.Option(help="The .jsonl file to write.")],
    format: Annotated[str | None, typer.Option(help="Name of the rows' format. Default: from their columns.")] = None,
) -> None:
    """Write any known format as canonical JSON lines."""
    from burnish.data import read_rows
    from burnish.data.convert import write_canonical

    name, count = write_canonical(read_rows(data), output, format)
    typer.echo(f"{count:,} rows of {data} ({name}) are in {output}")
