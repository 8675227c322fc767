"""Strict typed settings: unknown keys and wrong types are errors that name the nearest right key.

The machinery only; what may be set is declared in `burnish.recipe`. Stands at the beginning: knows pydantic and errors.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from burnish.errors import RecipeError


class Settings(BaseModel):
    """Base of every record of settings: frozen, strict about types, closed to unknown keys."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,  # what editors show of a key, see `recipe.editors`
    )


S = TypeVar("S", bound=Settings)


def parse(kind: type[S], data: Mapping[str, Any], known_elsewhere: Mapping[str, str]) -> S:
    """Builds settings from plain data.

    Args:
        kind: the record to build.
        data: nested mappings and lists, as a YAML file gives them.
        known_elsewhere: names that other tools use → our dotted name and, after a space, any remark.

    Raises:
        RecipeError: for the first wrong key or value, with the nearest right one.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise _explain(kind, error, known_elsewhere) from None


def _explain(kind: type[Settings], error: ValidationError, known_elsewhere: Mapping[str, str]) -> RecipeError:
    issues = sorted(error.errors(), key=lambda issue: issue["type"] != "extra_forbidden")
    issue = issues[0]
    names = {part for key in keys(kind) for part in key.split(".")}
    *within, last = issue["loc"] or ("",)
    # Between keys stand pydantic's names of the members of unions.
    parts = [part for part in within if isinstance(part, int) or part in names]
    is_key = isinstance(last, int) or last in names or issue["type"] == "extra_forbidden"
    path = ".".join(map(str, [*parts, last] if is_key else parts))
    if issue["type"] == "extra_forbidden":
        return unknown_key(kind, path, known_elsewhere)
    if issue["type"] == "missing":
        return RecipeError(given=f"{path} is missing", rule=f"{path} must be given", remedy=f"add {path}: …")
    rule = issue["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    value = issue["input"]
    if issue["type"] == "value_error" and isinstance(value, str):
        return RecipeError(given=f"{path}: {value}", rule=rule, remedy=f"correct {path}")
    if issue["type"] == "value_error":
        return RecipeError(given=f"the settings of {path or 'the recipe'}", rule=rule, remedy="change one of the two")
    given = repr(value) if isinstance(value, str | int | float | bool | None) else f"a {type(value).__name__}"
    return RecipeError(given=f"{path}: {given}", rule=f"{path} {rule}", remedy=f"correct {path}")


def unknown_key(kind: type[Settings], path: str, known_elsewhere: Mapping[str, str]) -> RecipeError:
    """The error for a key that no record has; names the nearest key, or ours for another tool's name."""
    parts = path.split(".")
    prefixes = [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
    path = next((prefix for prefix in prefixes if not any(_same_place(key, prefix) for key in keys(kind))), path)
    parent, _, name = path.rpartition(".")
    near = [key.rpartition(".") for key in keys(kind)]
    siblings = [last for above, _, last in near if last != "*" and _same_place(above, parent)]
    return unknown_name(path, name, siblings, known_elsewhere)


def unknown_name(path: str, name: str, siblings: Iterable[str], known_elsewhere: Mapping[str, str]) -> RecipeError:
    """The error for a name that is none of the siblings'."""
    choice = sorted(set(siblings))
    if name in known_elsewhere:
        remedy = f"here it is {known_elsewhere[name]}"
    elif near := difflib.get_close_matches(name, choice, n=1, cutoff=0.5):
        remedy = f"did you mean {near[0]}?"
    else:
        remedy = f"choose from: {', '.join(choice)}"
    return RecipeError(
        given=f"unknown key {path}", rule="every key of a recipe is one that Burnish knows", remedy=remedy
    )


def keys(kind: type[Settings], prefix: str = "") -> Iterator[str]:
    """All dotted keys of a record and of the records inside it; a list's entries are written ``*``."""
    for field, entry in kind.model_fields.items():
        name = entry.alias or field
        yield prefix + name
        for inner, in_list in _inner(entry.annotation, in_list=False):
            if in_list:
                yield f"{prefix}{name}.*"
            yield from keys(inner, f"{prefix}{name}.*." if in_list else f"{prefix}{name}.")


def _inner(annotation: Any, in_list: bool) -> Iterator[tuple[type[Settings], bool]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation, in_list
    if get_origin(annotation) is Annotated:
        yield from _inner(get_args(annotation)[0], in_list)
    is_list = get_origin(annotation) in (tuple, list)
    if is_list or get_origin(annotation) in (Union, UnionType):
        for argument in get_args(annotation):
            yield from _inner(argument, in_list or is_list)


def _same_place(pattern: str, path: str) -> bool:
    parts, wanted = pattern.split("."), path.split(".")
    return len(parts) == len(wanted) and all(
        a == b or (a == "*" and b.isdigit()) for a, b in zip(parts, wanted, strict=True)
    )
