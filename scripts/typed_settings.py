"""Writes burnish/api/settings_types.py: the types of the keyword arguments of `burnish.sft` and the like.

    python scripts/typed_settings.py

Editors complete and type checkers check keyword arguments by a TypedDict; the settings are pydantic classes. A test
holds the file to the settings.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from burnish.config.settings import Settings
from burnish.recipe.read import KINDS_ALONE
from burnish.recipe.recipe import Recipe
from burnish.stages.registry import BUILTIN
from burnish.verbs.evaluate import ChatSettings, EvalSettings
from burnish.verbs.evaluate_rewards import RewardEvalSettings
from burnish.verbs.generate import GenerateSettings

FILE = Path(__file__).parents[1] / "burnish" / "api" / "settings_types.py"
ARGUMENTS = {"model", "data", "output", "stages", "reward", "teacher"}
"""Settings that are arguments of their own."""
DATA = {"data", "eval_data", "prompts_data"}
FUNCTIONS = {"loss", "format"}
"""Settings that also take a function or a class."""
KIND_ALONE = {*KINDS_ALONE, "adapter"}
HEAD = '''"""Types of the keyword arguments of `burnish.sft` and the like, written by scripts/typed_settings.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from burnish.api.inputs import CallbackKeywords, Data, Function

'''


def text() -> str:
    """Content of the file, before formatting."""
    nested: dict[str, type[Settings]] = {}
    stages = "".join(_stage(entry.settings(), nested) for entry in BUILTIN.values())
    commands = "".join(
        _typed_dict(name, about, _fields(*kinds), nested)
        for name, about, kinds in (
            ("ChatKeywords", "Settings of a conversation.", (ChatSettings,)),
            ("GenerateKeywords", "Settings of generation.", (GenerateSettings,)),
            ("EvalKeywords", "Settings of evaluation; with verifier, of pass@k.", (RewardEvalSettings, EvalSettings)),
        )
    )
    recipe = _typed_dict(
        "RecipeKeywords", "Settings at the top of a recipe, and callbacks.", _fields(Recipe), nested, "CallbackKeywords"
    )
    written: dict[str, str] = {}
    while missing := [name for name in nested if name not in written]:
        written |= {
            name: _typed_dict(name, " ".join((nested[name].__doc__ or "").split()), nested[name].model_fields, nested)
            for name in missing
        }
    return HEAD + "".join(written[name] for name in sorted(written)) + recipe + stages + commands


def _stage(settings: type[Settings], nested: dict[str, type[Settings]]) -> str:
    name = settings.__name__.removesuffix("Settings") + "Keywords"
    about = f"Settings of a stage, and those of a recipe: {' '.join((settings.__doc__ or '').split())}"
    return _typed_dict(name, about, _fields(settings), nested, base="RecipeKeywords")


def _fields(*kinds: type[Settings]) -> dict[str, FieldInfo]:
    """Fields of settings by key, without those that are arguments of their own; the last of several kinds decides."""
    fields = {key: field for kind in kinds for key, field in kind.model_fields.items()}
    return {key: field for key, field in fields.items() if key not in ARGUMENTS}


def _typed_dict(
    name: str, about: str, fields: Mapping[str, FieldInfo], nested: dict[str, type[Settings]], base: str = "TypedDict"
) -> str:
    lines = [f"class {name}({base}, total=False):", *_docstring(about), ""]
    for key, field in fields.items():
        lines += [f"    {key}: {_type(key, field.annotation, nested)}", *_docstring(field.description or "")]
    return "\n".join(lines) + "\n\n\n"


def _docstring(text: str) -> Iterator[str]:
    """The help, in lines of the width of the code."""
    line = '    r"""' if "\\" in text else '    """'
    for word in text.split():
        if len(line) + len(word) > 116:
            yield line.rstrip()
            line = "    "
        line += f"{word} "
    yield f'{line.rstrip()}"""'


def _type(key: str, annotation: Any, nested: dict[str, type[Settings]]) -> str:
    if key in DATA:
        return "Data | None"
    kinds = list(dict.fromkeys(_members(annotation, nested)))
    kinds += ["Function"] if key in FUNCTIONS else []
    kinds += ["str"] if key in KIND_ALONE else []
    if "None" in kinds:
        kinds = [*(kind for kind in kinds if kind != "None"), "None"]
    return " | ".join(kinds)


def _members(annotation: Any, nested: dict[str, type[Settings]]) -> Iterator[str]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _members(arguments[0], nested)
    elif origin in (Union, UnionType):
        for member in arguments:
            yield from _members(member, nested)
    elif origin is Literal:
        yield f"Literal[{', '.join(map(repr, arguments))}]"
    elif origin in (tuple, list):
        yield f"Sequence[{' | '.join(_members(arguments[0], nested))}]"
    elif origin is not None:  # a mapping
        key, value = (" | ".join(_members(argument, nested)) for argument in arguments)
        yield f"Mapping[{key}, {value}]"
    elif annotation in (NoneType, None):
        yield "None"
    elif annotation is Any:
        yield "Any"
    elif issubclass(annotation, Settings):
        name = f"{annotation.__name__.lstrip('_')}Dict"
        nested[name] = annotation
        yield name
    else:
        yield annotation.__name__


def formatted() -> str:
    """Content of the file, formatted by ruff."""
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(FILE), "-"]
    return subprocess.run(command, input=text(), capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    FILE.write_text(formatted(), encoding="utf-8")
