"""Command line. Help appears at once: nothing heavy is imported before a command runs.

Exit status: 0 done, 2 a user's mistake (a message, never a traceback), 1 a fault of ours or a diverged training,
130 interrupted after a checkpoint was written.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import burnish
from burnish.cli import check, data, keys, model, quickstart
from burnish.cli.help import CommandGroup, StageCommand, usage_message
from burnish.errors import DivergenceError, Interrupted, RecipeError, UserError
from burnish.stages.registry import registered

if TYPE_CHECKING:  # torch and transformers take seconds to import
    from burnish.recipe import ResolvedRecipe
    from burnish.stages.result import RunResult

app = typer.Typer(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    help="Post-training for language models.",
    rich_markup_mode=None,
)
app.add_typer(data.app, name="data", rich_help_panel="data")
app.add_typer(model.app)
app.command(rich_help_panel="inspect")(check.check)
app.command(rich_help_panel="inspect")(keys.keys)
app.command(rich_help_panel="train")(quickstart.quickstart)

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Any setting, such as learning_rate=1e-4 or adapter.kind=lora.",
        autocompletion=keys.complete_setting,
    ),
]
Model = Annotated[
    str, typer.Option(help="Model: a hub name, a folder (a model, an adapter, a run), builtin:tiny or builtin:small.")
]
Data = Annotated[
    list[str],
    typer.Option(help="Training data: a file, a folder, a pattern or a hub dataset. Given several times: a mixture."),
]
Output = Annotated[
    str | None, typer.Option(help="Run folder. Default: runs/ and the command's name, with a number from 2 on.")
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Start a new run in a new folder, where the same command would resume one.")
]
Nproc = Annotated[
    int,
    typer.Option(min=1, help="Processes on this machine that train together (docs/parallel.md).", show_default=True),
]
EvalData = Annotated[list[str] | None, typer.Option(help="Held-out data, in the same format; also several times.")]
MaxSteps = Annotated[int | None, typer.Option(help="Number of optimizer steps, instead of epochs.")]
Seed = Annotated[int | None, typer.Option(help="Seed of the order of rows, initialization and sampling. Default: 0.")]


def _version(show: bool) -> None:
    if show:
        typer.echo(f"burnish {burnish.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Post-training for language models: SFT, preference learning, reward models, reinforcement learning."""


def _add_stage(method: str, about: str) -> None:
    """Registers a command that runs one stage; all have the same flags."""

    @app.command(method, cls=StageCommand, help=f"{about} The same command again resumes.", rich_help_panel="train")
    def stage(
        model: Model,
        data: Data,
        output: Output = None,
        eval_data: EvalData = None,
        max_steps: MaxSteps = None,
        seed: Seed = None,
        fresh: Fresh = False,
        nproc: Nproc = 1,
        settings: Overrides = None,
    ) -> None:
        flags = {
            "model": model,
            "data": _one_or_all(data),
            "eval_data": _one_or_all(eval_data or []),
            "max_steps": max_steps,
            "seed": seed,
        }
        _run_stage(method, flags, settings, output, fresh=fresh, count=nproc)


for _name, _entry in registered().items():
    _add_stage(_name, _entry.help)


@app.command(rich_help_panel="train")
def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe in YAML.")],
    settings: Overrides = None,
    output: Annotated[
        str | None, typer.Option(help="Run folder. Default: runs/ and the recipe's name, with a number from 2 on.")
    ] = None,
    fresh: Fresh = False,
    nproc: Nproc = 1,
) -> None:
    """Run a recipe. The same command again resumes the run, or reports that it is finished."""
    from burnish.recipe import read_recipe

    overrides = [*(settings or []), *([f"output={output}"] if output else [])]
    _run(read_recipe(recipe, overrides), fresh=fresh, count=nproc)


@app.command(rich_help_panel="inspect")
def report(
    folder: Annotated[Path, typer.Argument(help="A run folder, of a running or finished run.")],
) -> None:
    """Write a run's report.html again, and print its path."""
    from burnish.errors import RunError
    from burnish.runs.folder import RunFolder
    from burnish.watch.report import write_report

    running = RunFolder.held(folder)
    try:
        typer.echo(write_report(folder, "running" if running else None))
    except OSError as error:
        raise RunError(
            given=f"the report of {folder} cannot be written: {error.strerror}",
            rule="report.html is written into the run folder",
            remedy="free disk space, or change the permissions of the folder",
        ) from error


@app.command(rich_help_panel="inspect")
def schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    from burnish.recipe.json_schema import schema_text

    typer.echo(schema_text(), nl=False)


def _one_or_all(paths: list[str]) -> str | list[str] | None:
    """The path that was given, or the list of several; None: none."""
    return (paths[0] if len(paths) == 1 else paths) or None


def _run_stage(
    method: str, flags: Mapping[str, object], settings: list[str] | None, output: str | None, *, fresh: bool, count: int
) -> None:
    """Runs one stage from flags; flags that are not given have the recipe's defaults."""
    from burnish.config.text import parse_overrides
    from burnish.recipe import stage_recipe

    given = {name: value for name, value in flags.items() if value is not None}
    for key, value in parse_overrides(settings or []).items():
        if given.get(key, value) != value:
            raise RecipeError(
                given=f"{key} is given as {given[key]!r} and as {value!r}",
                rule="a key is given once",
                remedy="remove one of them",
            )
    _run(stage_recipe(method, given, settings or [], output or ""), fresh=fresh, count=count)


def _run(recipe: ResolvedRecipe, *, fresh: bool, count: int = 1) -> None:
    """Runs a recipe in this process, or in so many that it starts."""
    from burnish.parallel.place import Place
    from burnish.recipe.start_line import print_start
    from burnish.runs.numbered import in_own_folder, shorter_run

    placed, place = in_own_folder(recipe, fresh=fresh), Place.from_environment()
    if count > 1 and place is None:
        recipe.recipe.parallel.mesh(count)
        from burnish.parallel.launch import arguments_of_children, launch

        raise typer.Exit(launch(arguments_of_children(sys.argv[1:], str(placed.recipe.output)), count))
    is_main = place is None or place.rank == 0
    if is_main:
        print_start(placed)
    is_new = recipe.output_is_default and not Path(str(placed.recipe.output)).exists()
    if is_main and is_new and (shorter := shorter_run(recipe)):
        typer.echo(
            f"{shorter} is the same run, but shorter: --output {shorter} extends it, if its schedule allows", err=True
        )
    from burnish.stages.start import start  # torch and transformers take seconds to import

    result = start(placed)
    if is_main:
        _tell_next(result, placed)


def _tell_next(result: RunResult, recipe: ResolvedRecipe) -> None:
    """Prints what can be done with the run, and what was not done."""
    folder = result.folder.relative_to(Path.cwd()) if result.folder.is_relative_to(Path.cwd()) else result.folder
    typer.echo(f"the report: {folder / 'report.html'}", err=True)
    if recipe.recipe.stages[-1].settings.produces == "language_model":
        typer.echo(f"to talk to it: burnish chat {folder}", err=True)
    if result.again:
        typer.echo(f"{result.folder} is finished already ({result.steps} steps); nothing was done.")
    if result.unread:
        typer.echo(f"Its data could not be compared with those of the run: {result.unread}", err=True)


def _refuse_repeated(words: list[str]) -> None:
    """Refuses an option that is given twice and takes one value, since only the last one would count.

    Raises:
        RecipeError: names the option.
    """
    command = typer.main.get_command(app)
    for word in words:
        command = getattr(command, "commands", {}).get(word, command)
    singles = {name for option in command.params if not getattr(option, "multiple", True) for name in option.opts}
    given = [word.partition("=")[0] for word in words[: words.index("--") if "--" in words else None]]
    if repeated := next((name for name in given if name in singles and given.count(name) > 1), None):
        raise RecipeError(
            given=f"{repeated} is given {given.count(repeated)} times",
            rule=f"{repeated} takes one value",
            remedy="remove all but one",
        )


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command: exits with the status of the module's docstring."""
    # bitsandbytes warns on import that an optional kernel, which nothing here uses, is not installed.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    sys.exit(_status(arguments))


def _status(arguments: list[str] | None) -> int:
    words = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        _refuse_repeated(words)
        return int(app(words, standalone_mode=False) or 0)
    except typer.TyperException as error:  # a flag that does not exist, a missing argument
        typer.echo(usage_message(error, words), err=True)
        return error.exit_code
    except UserError as error:
        typer.echo(f"burnish: {error}", err=True)
        return 2
    except DivergenceError as error:
        typer.echo(f"burnish: {error}", err=True)
        return 1
    except (Interrupted, KeyboardInterrupt, typer.Abort) as error:
        typer.echo(f"burnish: {error or 'interrupted'}; run the same command to resume", err=True)
        return 130
