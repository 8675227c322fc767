"""Help and usage errors of the command line: commands in groups, the usual settings of a stage, other tools' names."""

from __future__ import annotations

import textwrap
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

GROUPS = {"train": "Train", "use": "Use a model", "data": "Data", "inspect": "Inspect"}
"""Name of a group of commands (their ``rich_help_panel``) → its heading, in the order of the help."""
EXAMPLE = """\
Example:
  burnish sft --model builtin:tiny --data builtin:chat max_steps=50 learning_rate=3e-3 chat_template=chatml
  burnish chat runs/sft

Settings are written key=value after the flags; `burnish keys` lists all of them.
"""
_KEY_WIDTH = 22
_DEFAULT_WIDTH = 16
_INDENT = " " * (_KEY_WIDTH + _DEFAULT_WIDTH + 4)


class CommandGroup(TyperGroup):
    """The command `burnish`: its help lists commands in groups, and an unknown command is answered with ours."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes the commands under the headings of their groups."""
        commands: list[tuple[str, Any]] = [(name, self.commands[name]) for name in self.list_commands(ctx)]
        limit = formatter.width - 6 - max(len(name) for name, _ in commands)
        for group, heading in GROUPS.items():
            rows = [
                (name, command.get_short_help_str(limit))
                for name, command in commands
                if command.rich_help_panel == group
            ]
            with formatter.section(heading):
                formatter.write_dl(rows)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Writes the example."""
        formatter.write("\n" + EXAMPLE)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Finds the command; another tool's name is answered with what to type here."""
        from burnish.settings.other_names import command_remedy
        from burnish.similar import similar

        name = args[0]
        if name not in self.commands and not name.startswith("-") and not ctx.resilient_parsing:
            near = similar(name, self.commands)
            remedy = command_remedy(name) or (f"did you mean burnish {near[0]}?" if near else "see burnish --help")
            raise UnknownCommand(f"No such command: burnish {name}", remedy)
        return super().resolve_command(ctx, args)


class UnknownCommand(typer.TyperException):
    """A command that does not exist, with what to type instead."""

    exit_code = 2

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


class StageCommand(TyperCommand):
    """A command that runs one stage: its help has the usual settings of that stage."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Writes a line for each usual setting: key, default, what it is."""
        from burnish.recipe.settings_list import usual_settings
        from burnish.stages.registry import registered

        entry = registered()[str(self.name)]
        formatter.write("\nUsual settings, written key=value, with their defaults:\n")
        for setting in usual_settings(entry):
            default = _fitting(setting.default or "required", _DEFAULT_WIDTH)
            line = f"  {setting.key:<{_KEY_WIDTH}} {default:<{_DEFAULT_WIDTH}} {setting.summary}"
            formatter.write(textwrap.fill(line, formatter.width, subsequent_indent=_INDENT) + "\n")
        formatter.write(f"\nAll settings: burnish keys {self.name}. One of them: burnish keys {self.name} WORD.\n")


def _fitting(text: str, width: int) -> str:
    """The text, cut with an ellipsis where it is wider."""
    return text if len(text) <= width else f"{text[: width - 1].rstrip()}…"


def usage_message(error: typer.TyperException, words: list[str]) -> str:
    """The message for a command line that cannot be parsed: what is wrong, and one remedy.

    Args:
        error: of the parser.
        words: the command line without ``burnish``.
    """
    if isinstance(error, UnknownCommand):
        return f"burnish: {error.message}\n  to do: {error.remedy}"
    details = vars(error)  # the parser's classes are private to typer
    context = details.get("ctx")
    command = _path(context)
    if option := details.get("option_name"):
        return f"burnish: No such option: {option}\n  to do: {option_remedy(command, option, _options(context))}"
    message = error.format_message()
    if message.startswith("Usage:"):  # a group without a command: its help is the message
        return message
    return f"burnish: {message}\n  to do: {_of_a_recipe(words)}see {f'burnish {command}'.rstrip()} --help"


def _of_a_recipe(words: list[str]) -> str:
    """Words about a recipe that was given to another command than `burnish run`."""
    recipe = next((word for word in words if word.endswith((".yaml", ".yml"))), None)
    return f"burnish run {recipe} runs a recipe; otherwise " if recipe else ""


def _path(context: Any) -> str:
    """The command of a context as it is typed, without ``burnish``; "": it is ``burnish`` itself."""
    names = []
    while context is not None and context.parent is not None:
        names.append(str(context.info_name))
        context = context.parent
    return " ".join(reversed(names))


def _options(context: Any) -> list[str]:
    return [name for entry in context.command.params for name in entry.opts if name.startswith("--")] if context else []


def option_remedy(command: str, option: str, options: list[str]) -> str:
    """What to write for an option that a command does not have.

    Args:
        command: the command, without ``burnish``.
        option: the option as it was typed, such as ``--learning-rate``.
        options: the options that the command has.
    """
    from burnish.errors import RecipeError
    from burnish.recipe.read import key_of_stage
    from burnish.similar import similar
    from burnish.stages.registry import registered

    key = option.lstrip("-").replace("-", "_")
    if near := similar(option, options):
        return f"did you mean {near[0]}?"
    if command not in registered():
        settings = "; settings are written without dashes, as key=value" if command else ""
        return f"see {f'burnish {command}'.rstrip()} --help{settings}"
    if "resume" in key:
        return "the same command resumes an interrupted run"
    try:
        key_of_stage(command, key)
    except RecipeError as error:
        return error.remedy
    return f"settings are written without dashes, as key=value: {key}=…"
