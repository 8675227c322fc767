"""List of all settings with types, defaults and help, for `burnish keys`, the stages' help and docs/settings.md.

Everything comes from the declarations of the settings: names, annotations, defaults and docstrings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from burnish.config.settings import Settings, fields_of
from burnish.recipe.recipe import Recipe
from burnish.stages.registry import StageEntry

_NULL = re.compile(r"[;.] ?null: |^null: ")
_KINDS = {"bool": "true or false", "int": "integer", "float": "number", "str": "text", "dict": "mapping"}


@dataclass(frozen=True, slots=True)
class SettingEntry:
    """One setting. Example: ``schedule.warmup_ratio``, "number", "0.03", "Share of the steps with linear warmup."."""

    key: str
    """As it is written before = on the command line."""
    kind: str
    """Type of its values, or their names."""
    default: str
    """The default as it is written; of a null default that depends on something, the beginning of its rule; "": the
    setting must be given."""
    help: str
    """Its docstring, one line."""

    @property
    def is_group(self) -> bool:
        """Whether it is a group of settings, which have entries of their own."""
        return self.kind == "group"

    @property
    def summary(self) -> str:
        """First sentence of the help, without the rule of a null default, and without what follows a colon or stands in
        parentheses; values that follow one or two words and a colon (``Loss: …``) stay."""
        text = re.sub(r" \([^()]*\)", "", _NULL.split(self.help)[0])
        sentence = re.split(r"\. |; ", text)[0].rstrip(".")
        head, _, _ = sentence.partition(": ")
        return head if head.count(" ") >= 2 else sentence

    def matches(self, word: str) -> bool:
        """Whether the word occurs in key or help, upper and lower case alike."""
        return word.lower() in f"{self.key}\n{self.help}\n{self.kind}".lower()


def stage_settings(entry: StageEntry) -> list[SettingEntry]:
    """Settings of a stage, as `burnish sft` and its like take them."""
    return list(_entries(entry.settings()))


def recipe_settings() -> list[SettingEntry]:
    """Settings at the top of a recipe, which every stage shares; on the command line they are written likewise."""
    return [entry for entry in _entries(Recipe) if entry.key.partition(".")[0] != "stages"]


def usual_settings(entry: StageEntry) -> list[SettingEntry]:
    """The settings of a stage that are set most, in the order of `StageSettings.usual`."""
    known = {setting.key: setting for setting in (*recipe_settings(), *stage_settings(entry))}
    return [known[key] for key in entry.settings().usual]


def _entries(kind: type[Settings]) -> Iterator[SettingEntry]:
    for key, field in fields_of(kind):
        if field is not None:
            text = " ".join((field.description or "").split())
            yield SettingEntry(key, _kind(field.annotation, field), _default(field, text), text)


def _kind(annotation: Any, field: FieldInfo | None = None) -> str:
    """Words for the type of a setting."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin is Literal:
        return ", ".join(map(_written, arguments))
    if origin in (Union, UnionType):
        kinds = dict.fromkeys(_kind(member) for member in arguments if member is not NoneType)
        if set(kinds) <= {"group", "mapping"} and "group" in kinds:
            return "group"
        return " or ".join("mapping" if kind == "group" else kind for kind in kinds)
    if origin in (tuple, list):
        return f"list of {_kind(arguments[0]).replace('group', 'mappings')}"
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return "group"
    name = getattr(origin or annotation, "__name__", "value")
    return _KINDS.get(name, "mapping" if origin is Mapping else name)


def _default(field: FieldInfo, text: str) -> str:
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)
    if value is None:
        parts = _NULL.split(text)
        return re.split(r"[,;.] | for |\.$", parts[1])[0] if len(parts) > 1 else "null"
    if isinstance(value, Settings) or value is PydanticUndefined:
        return ""
    return _written(value)


def _written(value: object) -> str:
    """The value as YAML on one line."""
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=10**6).removesuffix("\n").removesuffix("...").rstrip()
