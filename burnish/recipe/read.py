"""Recipes from files, flags and overrides, with the origin of every value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

from burnish.config.names import joined, unknown_name
from burnish.config.settings import keys, parse
from burnish.config.text import dump_yaml, flatten, load_yaml, parse_overrides, put
from burnish.data.settings import ROWS_IN_MEMORY, stored_rows_digest
from burnish.errors import RecipeError
from burnish.recipe.chain import numbered
from burnish.recipe.recipe import NOT_IDENTITY, Recipe, Stage, recipe_of
from burnish.settings.aliases import COUNTERPARTS, OTHER_TOOLS, RENAMED
from burnish.settings.resolved import Resolved
from burnish.stages.registry import BUILTIN, StageEntry, known_stages, stage_entry

DEFAULT = "default"
"""Origin of a value that was not given."""
KINDS_ALONE = ("optimizer", "schedule")
"""Groups of a stage whose value may be their kind alone, as that of the recipe's adapter may."""


@dataclass(frozen=True, slots=True)
class ResolvedRecipe:
    """A recipe with the origin of its values."""

    recipe: Recipe
    given: Mapping[str, str]
    """Dotted key → the file's name or "command line". A key that is not here has its default."""

    def text(self, resolved: Mapping[str, Resolved]) -> str:
        """The resolved recipe as YAML, each value with its origin.

        Args:
            resolved: dotted key → value in force, for null defaults that follow from something else. A null that stays
                has no effect, or means what its documentation says.
        """
        data = self.recipe.model_dump(mode="json")
        leaves = [key for key, _ in flatten(data)]
        origins = {key: self.given.get(key, DEFAULT) for key in leaves}
        for key, entry in resolved.items():
            if key not in self.given:
                put(data, key, entry.value)
                origins |= {f"{key}.{leaf}" if leaf else key: entry.origin for leaf, _ in flatten(entry.value)}
        written = {f"stages.{number}.{stage.method}": stage.entry.written for number, stage in self._stages}
        return dump_yaml(data, origins, written)

    def identity(self) -> dict[str, Any]:
        """The values that determine the result, by dotted key; of a stage in a user's file also the file's content."""
        leaves = flatten(self.recipe.model_dump(mode="json"))
        files = {f"stages.{number}": stage.entry.identity for number, stage in self._stages if stage.entry.identity}
        values = {key: _identity(value) for key, value in leaves}
        return {**{key: value for key, value in values.items() if _without_stage(key) not in NOT_IDENTITY}, **files}

    @property
    def output_is_default(self) -> bool:
        """Whether nobody named the run folder."""
        return self.given.get("output", DEFAULT) == DEFAULT

    def at(self, output: str) -> ResolvedRecipe:
        """The same recipe with another run folder."""
        return replace(self, recipe=self.recipe.model_copy(update={"output": output}))

    @property
    def _stages(self) -> Iterable[tuple[int, Stage]]:
        return enumerate(self.recipe.stages)


def read_recipe(path: Path, overrides: Sequence[str] = (), output: str | None = None) -> ResolvedRecipe:
    """Reads a recipe file and applies overrides.

    Raises:
        RecipeError: see `parse`; nothing is loaded before the whole recipe is valid.
    """
    return _recipe_of(load_yaml(path), path.name, overrides, output or f"runs/{path.stem}")


def mapped_recipe(data: Mapping[str, Any], overrides: Sequence[str] = ()) -> ResolvedRecipe:
    """As `read_recipe`, from the content of a file as mappings and lists."""
    return _recipe_of(_copy(data), "Python", overrides, "runs/recipe")


def _recipe_of(data: dict[str, Any], origin: str, overrides: Sequence[str], output: str) -> ResolvedRecipe:
    stages = _name_stages(data)
    _spell_out_kinds(data)
    origins = dict.fromkeys((key for key, _ in flatten(data)), origin)
    return _finish(data, origins, overrides, output, stages)


def _copy(value: Any) -> Any:
    """The mappings and lists anew, so that overrides change no object of the caller."""
    if isinstance(value, Mapping):
        return {key: _copy(entry) for key, entry in value.items()}
    return [_copy(entry) for entry in value] if isinstance(value, list | tuple) else value


def stage_recipe(
    method: str, settings: Mapping[str, Any], overrides: Sequence[str] = (), output: str = ""
) -> ResolvedRecipe:
    """Makes a recipe of one stage from flags: keys of the stage and of the recipe, as `burnish sft` takes them.

    None is a value: ``{"optimizer.max_grad_norm": None}`` turns clipping off.

    Raises:
        RecipeError: as `read_recipe`, or there is no such stage.
    """
    entry = stage_entry(method)
    data: dict[str, Any] = {"stages": [{entry.name: {}}]}
    stages = {entry.name: entry}
    for key, value in settings.items():
        put(data, _target(data, key, value, stages), str(value) if isinstance(value, Path) else value)
    if output:
        data["output"] = output
    origins = dict.fromkeys((key for key, _ in flatten(data)), "command line")
    try:
        return _finish(data, origins, overrides, f"runs/{entry.name}", stages)
    except RecipeError as error:  # a user of one stage does not write its place in a recipe
        place = f"stages.0.{entry.name}."
        texts = (text.replace(place, "") for text in (error.given, error.rule, error.remedy))
        raise RecipeError(*texts) from error.__cause__


_Stages = Mapping[str, StageEntry]
"""Stages that the recipe names, by their names in dotted keys."""


def _finish(
    data: dict[str, Any], origins: dict[str, str], overrides: Sequence[str], output: str, stages: _Stages
) -> ResolvedRecipe:
    given = parse_overrides(overrides)
    targets = _targets(data, given, stages)
    for key, value in given.items():
        full = targets[key]
        put(data, full, value)
        origins = {old: origin for old, origin in origins.items() if not old.startswith(f"{full}.")}
        origins |= {f"{full}.{leaf}" if leaf else full: "command line" for leaf, _ in flatten(value)}
    if data.get("output") is None:
        data["output"] = output
        origins["output"] = DEFAULT
    recipe = parse(recipe_of(stages), data, OTHER_TOOLS, {**COUNTERPARTS, **RENAMED}, stages_with)
    return ResolvedRecipe(recipe, origins)


def _targets(data: Mapping[str, Any], given: Mapping[str, Any], stages: _Stages) -> dict[str, str]:
    """Key as written → dotted key of the recipe.

    Raises:
        RecipeError: keys are unknown; it names all of them.
    """
    targets, unknown = {}, []
    for key, value in given.items():
        try:
            targets[key] = _target(data, key, value, stages)
        except RecipeError as error:
            if not error.given.startswith("unknown key"):
                raise
            unknown.append(error)
    if unknown:
        raise joined(unknown)
    return targets


def _name_stages(data: Mapping[str, Any]) -> _Stages:
    """Stages of a recipe's data, in which ``my_stage.py:Distil`` is replaced by the name ``Distil``.

    Where a stage is unknown, all of this package are returned, so that the error can suggest one.
    """
    entries = [entry for entry in _entries(data) if all(isinstance(name, str) for name in entry)]
    known = known_stages(name for entry in entries for name in entry)
    names = {stage.written: name for name, stage in known.items()}
    for entry in entries:
        renamed = {names.get(name, name): settings for name, settings in entry.items()}
        entry.clear()
        entry.update(renamed)
    is_whole = known and all(name in known for entry in entries for name in entry)
    return known if is_whole else {**BUILTIN, **known}


def _entries(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The mappings in the recipe's list of stages."""
    stages = data.get("stages")
    return [stage for stage in stages if isinstance(stage, dict)] if _is_list(stages) else []


def _spell_out_kinds(data: dict[str, Any]) -> None:
    """Expands ``optimizer: muon`` to ``optimizer: {kind: muon}``, so that overrides can add keys to the group; also
    ``adapter: lora``."""
    if isinstance(adapter := data.get("adapter"), str):
        data["adapter"] = {"kind": adapter}
    for settings in (settings for stage in _entries(data) for settings in stage.values() if isinstance(settings, dict)):
        alone = [group for group in KINDS_ALONE if isinstance(settings.get(group), str)]
        settings |= {group: {"kind": settings[group]} for group in alone}


def _target(data: Mapping[str, Any], key: str, value: object, stages: _Stages) -> str:
    """Dotted key of the recipe that an override sets: ``optimizer=muon`` sets its kind."""
    full = _full_key(data, key, stages)
    return f"{full}.kind" if isinstance(value, str) and _without_stage(full) in (*KINDS_ALONE, "adapter") else full


def key_of_stage(method: str, key: str) -> str:
    """Dotted key of a recipe of one stage for a key as users write it.

    Raises:
        RecipeError: there is no such key; the remedy names what was meant.
    """
    entry = stage_entry(method)
    return _full_key({"stages": [{entry.name: {}}]}, key, {entry.name: entry})


def _full_key(data: Mapping[str, Any], key: str, stages: _Stages) -> str:
    """Dotted key of the recipe for a key as users write it.

    ``adapter.rank`` belongs to the recipe; ``learning_rate`` to the only stage; with several stages
    ``sft-2.learning_rate`` names one.
    """
    head, _, rest = key.partition(".")
    if head in Recipe.model_fields:
        return key
    methods = [str(next(iter(stage), "")) for stage in _entries(data)]
    fields = {method: stages[method].settings() for method in methods if method in stages}
    names = numbered(methods)
    if head in names and rest:
        number = names.index(head)
        return f"stages.{number}.{methods[number]}.{rest}"
    owners = [
        name
        for name, method in zip(names, methods, strict=True)
        if method in fields and head in fields[method].model_fields
    ]
    if len(methods) == 1 and owners:
        return f"stages.0.{methods[0]}.{key}"
    if owners:
        raise RecipeError(
            given=key,
            rule="in a recipe with several stages, a key of a stage names its stage",
            remedy=f"write {', '.join(f'{name}.{key}' for name in owners)}",
        )
    of_stages = dict.fromkeys(name for settings in fields.values() for name in keys(settings))
    valid = [*names[1:], *(name for name in (*keys(recipe_of(stages)), *of_stages) if "*" not in name)]
    siblings = [name for name in valid if "." not in name]
    raise unknown_name(key, head, valid, siblings, OTHER_TOOLS, {**COUNTERPARTS, **RENAMED}, stages_with)


def stages_with(name: str) -> list[str]:
    """Stages of this package that have a key of this name, at any level."""
    return [
        method
        for method, entry in BUILTIN.items()
        if any(key.rpartition(".")[2] == name for key in keys(entry.settings()))
    ]


def _without_stage(key: str) -> str:
    """A dotted key without its stage: ``stages.0.sft.epochs`` becomes ``epochs``."""
    return re.sub(r"^stages\.\d+\.\w+\.", "", key)


def _identity(value: object) -> object:
    """Value in the identity. Rows that came from memory count by their content, wherever they are stored."""
    if _is_list(value):
        return [_identity(entry) for entry in value]
    digest = stored_rows_digest(value) if isinstance(value, str) else None
    return value if digest is None else f"{ROWS_IN_MEMORY} {digest}"


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def stage_names(recipe: Recipe) -> list[str]:
    """Names of the stages in metrics, folders and overrides."""
    return list(recipe.named_stages)
