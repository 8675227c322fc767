"""Translation of a case's recipe into the names of an older commit, and of an older commit's figures into ours.

The table is `renames.yaml`. A commit is asked by the JSON schema that it prints itself, so the table serves any commit:
one that knows a new name gets the new name.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

TABLE = Path(__file__).with_name("renames.yaml")
Names = Mapping[str, str]
Settings = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Renames:
    """The table: everywhere new name → old name. `renames.yaml` explains each section."""

    keys: Mapping[str, Names] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, Names]] = field(default_factory=dict)
    combined: Mapping[str, Sequence[Mapping[str, Settings]]] = field(default_factory=dict)
    reward_options: Names = field(default_factory=dict)
    reward_values: Mapping[str, Names] = field(default_factory=dict)
    cli: Names = field(default_factory=dict)
    metrics: Names = field(default_factory=dict)
    alerts: Names = field(default_factory=dict)
    samples: Names = field(default_factory=dict)
    markers: Names = field(default_factory=dict)
    added: Sequence[str] = ()
    """Figures that an older commit does not write: left out where it lacks them."""

    def __post_init__(self) -> None:
        for given, marker in ((self.reward_options, "rewards"), (self.reward_values, "rewards"), (self.cli, "cli")):
            if given and marker not in self.markers:
                raise ValueError(f"no schema lists these names: {', '.join(given)}; give markers.{marker}")

    @classmethod
    def read(cls, path: Path = TABLE) -> Renames:
        """Reads a table."""
        return cls(**yaml.safe_load(path.read_text(encoding="utf-8")))


class Schema:
    """What a commit's recipes may have: the JSON schema that `burnish schema` prints."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data

    def knows(self, *path: str) -> bool:
        """Whether there is such a key, by its name; `*` is any entry of a list. Open mappings know none."""
        return bool(self._nodes(path, by_name=True))

    def choices(self, *path: str) -> frozenset[object]:
        """The values that a key is restricted to; empty: it also takes other text, or is no text."""
        nodes = self._nodes(path)
        if any(node.get("type") == "string" and "enum" not in node and "const" not in node for node in nodes):
            return frozenset()
        return frozenset(value for node in nodes for value in [*node.get("enum", ()), node.get("const")] if value)

    def marked(self, marker: str) -> bool:
        """Whether it knows a key that is written with its section, as in `Renames.markers`."""
        section, _, key = marker.partition(".")
        kinds = self.kinds if section == "stage" else [section]
        paths = [()] if section == "recipe" else [("stages", "*", kind) for kind in kinds]
        return any(self.knows(*path, *key.split(".")) for path in paths)

    @property
    def kinds(self) -> list[str]:
        """The kinds of stages."""
        return [kind for node in self._nodes(("stages", "*")) for kind in node.get("properties", ())]

    def _nodes(self, path: Sequence[str], *, by_name: bool = False) -> list[Mapping[str, Any]]:
        nodes = list(self._alternatives(self._data))
        for part in path:
            below = [node for parent in nodes for node in _children(parent, part, by_name)]
            nodes = [node for child in below for node in self._alternatives(child)]
        return nodes

    def _alternatives(self, node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """The node without references and unions."""
        if "$ref" in node:
            inner = self._data
            for part in node["$ref"].removeprefix("#/").split("/"):
                inner = inner[part]
            yield from self._alternatives(inner)
        union = [*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())]
        for member in union:
            yield from self._alternatives(member)
        if "$ref" not in node and not union:
            yield node


def _children(node: Mapping[str, Any], part: str, by_name: bool) -> Iterator[Mapping[str, Any]]:
    if part in node.get("properties", ()):
        yield node["properties"][part]
    elif part == "*" and "items" in node:
        yield node["items"]
    elif not by_name and isinstance(node.get("additionalProperties"), Mapping):
        yield node["additionalProperties"]


def translated(recipe: Mapping[str, Any], renames: Renames, schema: Schema) -> Settings:
    """The recipe in the names of the commit whose schema it is."""
    result = copy.deepcopy(dict(recipe))
    for stage in result["stages"]:
        for kind, settings in stage.items():
            if "reward" in settings and not _is_known(renames, schema, "rewards"):
                settings["reward"] = _reward(settings["reward"], renames)
            _Place(renames, schema, ("stages", "*", kind), ("stage", kind)).translate(settings)
    _Place(renames, schema, (), ("recipe",)).translate(result)
    return result


def command_words(words: Sequence[str], renames: Renames, schema: Schema) -> list[str]:
    """The words of a command as the commit calls them."""
    return list(words) if _is_known(renames, schema, "cli") else [renames.cli.get(word, word) for word in words]


def with_new_names(line: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """A line of figures or samples whose old names are replaced."""
    new = {old: new for new, old in names.items()}
    return {new.get(name, name): value for name, value in line.items()}


def _is_known(renames: Renames, schema: Schema, marker: str) -> bool:
    """Whether the commit has the new names of what no schema lists. Without a marker there are no such names."""
    return marker not in renames.markers or schema.marked(renames.markers[marker])


@dataclass(frozen=True, slots=True)
class _Place:
    """A part of a recipe, and the sections of the table that hold for it."""

    renames: Renames
    schema: Schema
    path: tuple[str, ...]
    sections: tuple[str, ...]

    def translate(self, settings: Settings) -> None:
        """Replaces new names. All are taken out before any is put in, for one's new name may be another's old one."""
        moved: Settings = {}
        for rule in (rule for section in self.sections for rule in self.renames.combined.get(section, ())):
            if _has_all(settings, rule["new"]) and not all(self._knows(key) for key in rule["new"]):
                for key in rule["new"]:
                    _pop(settings, key)
                moved |= rule["old"]
        values = self._of(self.renames.values)
        for new in [*values, *(key for key in self._of(self.renames.keys) if key not in values)]:
            if _has(settings, new):
                old = new if self._knows(new) else self._of(self.renames.keys).get(new, new)
                moved[old] = self._value(old, _pop(settings, new), values.get(new, {}))
        for key, value in moved.items():
            _put(settings, key, value)

    def _of(self, table: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        return {key: value for section in self.sections for key, value in table.get(section, {}).items()}

    def _knows(self, key: str) -> bool:
        return self.schema.knows(*self.path, *key.split("."))

    def _value(self, key: str, value: object, names: Names) -> object:
        if isinstance(value, dict):
            return {self._value(key, name, names): inner for name, inner in value.items()}
        if not isinstance(value, str) or value not in names:
            return value
        if choices := self.schema.choices(*self.path, *key.split(".")):
            return value if value in choices else names[value]
        if "values" not in self.renames.markers:
            raise ValueError(
                f"{key} takes any text, so the schema does not tell whether {value} is known; give markers.values"
            )
        return value if _is_known(self.renames, self.schema, "values") else names[value]


def _reward(written: Any, renames: Renames) -> Any:
    """A reward, or a list of rewards, with the old names of options and values."""
    if isinstance(written, list):
        return [_reward(entry, renames) for entry in written]
    if isinstance(written, str):
        return renames.reward_values.get("name", {}).get(written, written)
    return _options(written, str(written["name"]), renames)


def _options(options: Settings, reward: str, renames: Renames) -> Settings:
    result: Settings = {}
    for name, value in options.items():
        old = renames.reward_options.get(f"{reward}.{name}", renames.reward_options.get(name, name))
        if isinstance(value, dict):
            result[old] = _options(value, reward, renames)
        else:
            names = renames.reward_values.get(name, {})
            result[old] = names.get(value, value) if isinstance(value, str) else value
    return result


def _has(settings: Settings, key: str) -> bool:
    head, _, rest = key.partition(".")
    if not rest:
        return head in settings
    return isinstance(settings.get(head), dict) and _has(settings[head], rest)


def _has_all(settings: Settings, wanted: Settings) -> bool:
    return all(_has(settings, key) and _get(settings, key) == value for key, value in wanted.items())


def _get(settings: Settings, key: str) -> Any:
    head, _, rest = key.partition(".")
    return _get(settings[head], rest) if rest else settings[head]


def _pop(settings: Settings, key: str) -> Any:
    """Takes a value out, and groups that are empty without it."""
    head, _, rest = key.partition(".")
    if not rest:
        return settings.pop(head)
    value = _pop(settings[head], rest)
    if not settings[head]:
        del settings[head]
    return value


def _put(settings: Settings, key: str, value: Any) -> None:
    head, _, rest = key.partition(".")
    if rest:
        _put(settings.setdefault(head, {}), rest, value)
    else:
        settings[head] = value
