"""Command `burnish keys`: lists and searches all settings.

Registered by `cli`, and like it quick to import.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # the settings of the stages take half a second to import
    from burnish.recipe.settings_list import SettingEntry


_INDENT = " " * 6


def keys(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="STAGE_OR_WORD", help="A stage, and words that the settings must contain."),
    ] = None,
) -> None:
    """List all settings, or search them. Names of other tools are found as well: burnish keys num_generations."""
    from burnish.recipe.settings_list import recipe_settings, stage_settings
    from burnish.similar import similar
    from burnish.stages.registry import registered

    given = list(words or [])
    stages = registered()
    chosen = [given.pop(0)] if given and given[0] in stages else list(stages)
    sections = {f"stage {name}": stage_settings(stages[name]) for name in chosen}
    sections["every stage"] = recipe_settings()
    count = 0
    for title, settings in _shared_last(sections).items():
        matching = [setting for setting in settings if all(setting.matches(word) for word in given)]
        count += len(matching)
        _print(title, matching)
    if given:
        count += _print_other_tools(given)
    if not count:
        last = dict.fromkeys(one.key.rpartition(".")[2] for listed in sections.values() for one in listed)
        near = [name for word in given for name in similar(word, last)[:2]]
        meant = f"; did you mean {' or '.join(near)}?" if near else ""
        typer.echo(f"no setting contains {' and '.join(given)}{meant}", err=True)
        raise typer.Exit(1)


def _shared_last(sections: dict[str, list[SettingEntry]]) -> dict[str, list[SettingEntry]]:
    """Moves settings that all listed stages have alike into a section of their own, so that each is listed once."""
    *stages, top = sections
    shared = [entry for entry in sections[stages[0]] if all(entry in sections[stage] for stage in stages)]
    if len(stages) == 1:
        return sections
    own = {stage: [entry for entry in sections[stage] if entry not in shared] for stage in stages}
    return {**own, "every stage": [*shared, *sections[top]]}


def _print(title: str, settings: Iterable[SettingEntry]) -> None:
    heading, width = f"{title}:", max(40, shutil.get_terminal_size().columns)
    for setting in settings:
        if heading:
            typer.secho(heading, bold=True)
            heading = ""
        default = f", default {setting.default}" if setting.default else ""
        required = "" if setting.default or setting.is_group else ", required"
        typer.echo(f"  {typer.style(setting.key, fg='cyan')}  ({setting.kind}{default}{required})")
        typer.echo(textwrap.fill(setting.help, width, initial_indent=_INDENT, subsequent_indent=_INDENT))


def _print_other_tools(words: list[str]) -> int:
    """Prints keys of other tools that contain the words, each with ours; returns their number."""
    from burnish.settings.aliases import OTHER_TOOLS

    found = {key: ours for key, ours in OTHER_TOOLS.items() if all(word.lower() in key for word in words)}
    if found:
        typer.secho("keys of other tools:", bold=True)
    for key, ours in found.items():
        typer.echo(f"  {key} → {ours}")
    return len(found)


def complete_setting(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Completions of ``key=`` for the shell: the settings of the command's stage, each with its help."""
    from burnish.recipe.settings_list import recipe_settings, stage_settings
    from burnish.stages.registry import registered

    entry = registered().get(str(ctx.info_name))
    settings = [] if entry is None else [*stage_settings(entry), *recipe_settings()]
    return [(f"{one.key}=", one.summary) for one in settings if not one.is_group and one.key.startswith(incomplete)]
