"""Commands of `burnish data`: convert, profile, view and audit a dataset before training.

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


@app.command()
def audit(
    data: Annotated[str, typer.Argument(help="A file, a folder, a pattern or a hub dataset.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings, such as limits.cpu_seconds=5 or max_tests=20."),
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Number of rows, drawn by the seed. Default: all.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of rows, mutants and inputs. Default: 0.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Rows at a time. Default: the number of cores.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for audit.jsonl and audit.html.")] = None,
    keep: Annotated[Path | None, typer.Option(help="The .jsonl file to write the rows to that pass.")] = None,
    drop: Annotated[
        str | None, typer.Option(help="Findings whose rows --keep leaves out, as gold_fails,flaky. Default: faults.")
    ] = None,
) -> None:
    """Audit tasks with programs: do solutions pass each time, and do the tests reject wrong programs?

    Ends with status 1 if a program passes that attacks the tests."""
    from burnish.grading.code_audit.findings import FAULTS
    from burnish.verbs.audit import audit as audit_of
    from burnish.verbs.audit import read_audit, read_kinds, require_keep
    from burnish.verbs.audit_page import write_audit
    from burnish.watch.counter import count_on_terminal

    dropped = FAULTS if drop is None else read_kinds(drop)
    require_keep(keep, drop)
    given = {"path": data, "count": count, "seed": seed, "workers": workers}
    audited = audit_of(read_audit(given, settings or []), told=count_on_terminal("rows audited"))
    for line in audited.report.lines():
        typer.echo(line)
    if output is not None:
        lines, page = write_audit(audited.report, output)
        typer.echo(f"{page} and {lines} are written")
    if keep is not None:
        kept = audited.write_kept(keep, dropped)
        typer.echo(f"{keep}: {kept:,} of {len(audited.report.audits):,} rows")
    if audited.report.attacked:
        raise typer.Exit(1)
