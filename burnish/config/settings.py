"""Strict typed settings: unknown keys and wrong types are errors that suggest the nearest key.

This is the mechanism only; settings are declared in `burnish.recipe`, `burnish.settings` and the stages.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from burnish.config.names import NO_NAMES, Elsewhere, joined, unknown_name
from burnish.errors import RecipeError


class Settings(BaseModel):
    """Base class of settings: frozen, strict about types, without unknown keys."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,  # the help that editors show, see `recipe.json_schema`
    )

    @model_validator(mode="before")
    @classmethod
    def _one_entry_is_a_list(cls, data: Any) -> Any:
        """A text or a number where only a list can stand is a list of one: ``trackers: wandb``."""
        if not isinstance(data, Mapping):
            return data
        listed = {entry.alias or name for name, entry in cls.model_fields.items() if _is_list(entry.annotation)}
        single = {key: (value,) for key, value in data.items() if key in listed and isinstance(value, _SCALARS)}
        return {**data, **single}


_SCALARS = (str, int, float)


def _is_list(annotation: Any) -> bool:
    """Whether only lists of any length can stand there, or null."""
    if get_origin(annotation) is Annotated:
        return _is_list(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return all(_is_list(member) for member in get_args(annotation) if member is not type(None))
    return get_origin(annotation) is tuple and get_args(annotation)[-1] is Ellipsis


S = TypeVar("S", bound=Settings)


def parse(
    kind: type[S],
    data: Mapping[str, Any],
    known_elsewhere: Mapping[str, str],
    renamed: Mapping[str, str] = NO_NAMES,
    stages_with: Elsewhere = lambda _: (),
) -> S:
    """Builds settings from plain data.

    Args:
        kind: the record to build.
        data: nested mappings and lists, as a YAML file gives them.
        known_elsewhere: key of another tool → our dotted key and, after a space, a remark.
        renamed: key of an earlier version → our dotted key.
        stages_with: name of a key → names of the stages that have it.

    Raises:
        RecipeError: for the first wrong key or value, with the nearest right one.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise _explain(kind, error, known_elsewhere, renamed, stages_with) from None


def _explain(
    kind: type[Settings],
    error: ValidationError,
    known_elsewhere: Mapping[str, str],
    renamed: Mapping[str, str],
    stages_with: Elsewhere,
) -> RecipeError:
    issues = sorted(error.errors(), key=lambda issue: issue["type"] != "extra_forbidden")
    unknown = [issue for issue in issues if issue["type"] == "extra_forbidden"]
    names = {part for key in keys(kind) for part in key.split(".")}
    if len(unknown) > 1:
        return joined([_explain_issue(kind, issue, names, known_elsewhere, renamed, stages_with) for issue in unknown])
    return _explain_issue(kind, issues[0], names, known_elsewhere, renamed, stages_with)


def _explain_issue(
    kind: type[Settings],
    issue: ErrorDetails,
    names: Collection[str],
    known_elsewhere: Mapping[str, str],
    renamed: Mapping[str, str],
    stages_with: Elsewhere,
) -> RecipeError:
    *within, last = issue["loc"] or ("",)
    # pydantic puts the names of members of unions between keys.
    parts = [part for part in within if isinstance(part, int) or part in names]
    is_key = isinstance(last, int) or last in names or issue["type"] == "extra_forbidden"
    path = ".".join(map(str, [*parts, last] if is_key else parts))
    if issue["type"] == "extra_forbidden":
        return unknown_key(kind, path, known_elsewhere, renamed, stages_with)
    if issue["type"] == "missing":
        return RecipeError(given=f"{path} is missing", rule=f"{path} must be given", remedy=f"add {path}: …")
    rule = issue["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    rule = re.sub("a valid dictionary or (instance|object) .*", "a mapping of settings", rule)
    rule = next((rule.replace(words, ours) for words, ours in _WORDS.items() if words in rule), rule)
    value = issue["input"]
    if rule.startswith(("here it is ", "not available")):  # a value of another tool, see `settings.aliases.named_here`
        return RecipeError(given=f"{path}: {value}", rule=f"{path} has names of its own for its values", remedy=rule)
    if issue["type"] == "too_short":
        return RecipeError(given=f"{path} is empty", rule=f"{path} has at least one entry", remedy=f"add one to {path}")
    if issue["type"] == "value_error" and isinstance(value, str):
        return RecipeError(given=f"{path}: {value}", rule=rule, remedy=f"correct {path}")
    if issue["type"] == "value_error" and not isinstance(value, Mapping | Settings):
        return RecipeError(given=f"{path}: {_shown(value)}", rule=rule, remedy=f"correct {path}")
    if issue["type"] == "value_error":
        return RecipeError(given=f"the settings of {path or 'the recipe'}", rule=rule, remedy="change one of the two")
    remedy = "write one of these values" if issue["type"] == "literal_error" else _remedy(issue["type"], path, value)
    return RecipeError(given=f"{path}: {_shown(value)}", rule=f"{path} {rule}", remedy=remedy)


_WORDS = {
    "a valid tuple": "a list",
    "a valid list": "a list",
    "a valid dictionary": "a mapping",
    "a valid integer": "an integer",
    "a valid ": "a ",
}
"""Words of pydantic → those of YAML."""


def _shown(value: object) -> str:
    """What was given, by its shape unless it is short."""
    match value:
        case str() | int() | float() | None:
            return repr(value)
        case Mapping():
            return f"a mapping with {', '.join(map(str, list(value)[:3]))}" if value else "an empty mapping"
        case list() | tuple():
            return f"a list of {len(value)}"
    return f"an object of the class {type(value).__name__}"


def _remedy(problem: str, path: str, value: object) -> str:
    """How to write it, where that is known from the shape."""
    name = path.rpartition(".")[2]
    if problem == "tuple_type" and isinstance(value, Mapping) and value:
        return f"write each entry of {name} with a dash: `- {next(iter(value))}: …`"
    if problem == "string_type" and isinstance(value, int | float):
        return f'quote it: {name}: "{value}"'
    if problem in ("model_type", "dict_type", "model_attributes_type") and name.isdigit():
        return f"write the entry as a mapping: `- {value if isinstance(value, str) else 'name'}: {{key: value}}`"
    if problem in ("model_type", "dict_type", "model_attributes_type"):
        return f"write {name} as keys below it, such as `{name}: {{key: value}}`"
    return f"correct {path}"


def unknown_key(
    kind: type[Settings],
    path: str,
    known_elsewhere: Mapping[str, str],
    renamed: Mapping[str, str],
    stages_with: Elsewhere,
) -> RecipeError:
    """The error for an unknown key, with the nearest key or ours for another tool's name."""
    parts = path.split(".")
    prefixes = [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
    path = next((prefix for prefix in prefixes if not any(_same_place(key, prefix) for key in keys(kind))), path)
    scope, parent = _scope(path), path.rpartition(".")[0]
    known = dict(_seen_from(kind, parent, scope))
    siblings = [name for name, above in known.items() if above == parent]
    return unknown_name(path, path.removeprefix(scope), list(known), siblings, known_elsewhere, renamed, stages_with)


def _scope(path: str) -> str:
    """Prefix of a path, with its dot, that users leave out: the first entry of a list and the record in it.

    Example: ``stages.0.sft.`` of ``stages.0.sft.optimizer.kind``; "" where there is no entry.
    """
    parts = path.split(".")
    entry = next((index for index, part in enumerate(parts) if part.isdigit()), None)
    if entry is None:
        return ""
    depth = entry + 2 if len(parts) > entry + 2 else entry + 1
    return "".join(f"{part}." for part in parts[:depth])


def _seen_from(kind: type[Settings], parent: str, scope: str) -> Iterator[tuple[str, str]]:
    """Keys as users write them in that scope, each with its parent; of lists there, only the entry of the parent."""
    depth = scope.count(".")
    for key in keys(kind):
        *above, name = key.split(".")
        if name == "*":
            continue
        if _same_place(".".join(above), parent):
            yield f"{parent}.{name}".removeprefix(".").removeprefix(scope), parent
        elif scope and _same_place("".join(f"{part}." for part in above[:depth]), scope):
            if "*" not in above[depth:]:
                yield ".".join([*above[depth:], name]), ".".join(above)
        elif "*" not in above or (not scope and above.count("*") == 1):
            yield key, ".".join(above)


def keys(kind: type[Settings], prefix: str = "") -> Iterator[str]:
    """All dotted keys of a record and of the records inside it; a list's entries are written ``*``."""
    for key, _ in fields_of(kind, prefix):
        yield key


def fields_of(kind: type[Settings], prefix: str = "") -> Iterator[tuple[str, FieldInfo | None]]:
    """All dotted keys of a record and of the records inside it, each with its field; of a list's entries, written
    ``*``, None."""
    for field, entry in kind.model_fields.items():
        name = entry.alias or field
        yield prefix + name, entry
        for inner, in_list in _inner(entry.annotation, in_list=False):
            if in_list:
                yield f"{prefix}{name}.*", None
            yield from fields_of(inner, f"{prefix}{name}.*." if in_list else f"{prefix}{name}.")


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
