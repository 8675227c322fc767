"""Text form of settings: reading YAML and ``key=value`` overrides, writing YAML with the origin of every value."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from burnish.errors import RecipeError


class _Loader(yaml.SafeLoader):
    """YAML loader that reads 1e-4 as a number (YAML 1.1 reads it as text) and refuses duplicate keys."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def _unique_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key, _ in node.value:
        name = loader.construct_object(key)
        if not isinstance(name, Hashable):
            raise yaml.MarkedYAMLError(problem="a key is a name, not a list", problem_mark=key.start_mark)
        if name in seen:
            raise yaml.MarkedYAMLError(problem=f"the key {name} occurs twice", problem_mark=key.start_mark)
        seen.add(name)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def load_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML file that holds one mapping.

    Raises:
        RecipeError: no such file, not YAML (with line and column), or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            given=f"recipe {path}: {error.strerror if isinstance(error, OSError) else error}",
            rule="a recipe is a readable YAML file in UTF-8",
            remedy=f"check the path; the current folder is {Path.cwd()}",
        ) from error
    data = parse_yaml(text, str(path))
    if not isinstance(data, dict):
        raise RecipeError(
            given=f"recipe {path} holds {'nothing' if data is None else type(data).__name__}",
            rule="a recipe is a mapping with model and stages",
            remedy="add a line such as `model: path-or-name`",
        )
    return data


def parse_yaml(text: str, place: str) -> Any:
    """Parses YAML text; `place` names it in the RecipeError for a mistake."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        marked = isinstance(error, yaml.MarkedYAMLError) and error.problem_mark
        where = f" line {marked.line + 1}, column {marked.column + 1}" if marked else ""
        raise RecipeError(
            given=f"{place}{where}: {error.problem if isinstance(error, yaml.MarkedYAMLError) else error}",
            rule="a recipe is valid YAML, every key once",
            remedy="correct that line",
        ) from error


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """``["a.b=1", "c=x"]`` → ``{"a.b": 1, "c": "x"}``; values are read as YAML.

    Raises:
        RecipeError: no ``=``, an empty key, or the same key twice with different values.
    """
    given: dict[str, Any] = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            raise RecipeError(
                given=f"argument {override!r}",
                rule="an override is key=value, such as learning_rate=1e-4 or adapter.rank=8",
                remedy=f"write {override.strip() or 'key'}=VALUE, without spaces; flags begin with --",
            )
        parsed = parse_yaml(value, f"override {override!r}")
        if key in given and given[key] != parsed:
            raise RecipeError(
                given=f"{key} is given as {given[key]!r} and as {parsed!r}",
                rule="a key is given once",
                remedy="remove one of them",
            )
        given[key.strip()] = parsed
    return given


def put(data: dict[str, Any], key: str, value: object) -> None:
    """Sets a dotted key in nested mappings and lists, creating missing mappings."""
    *path, last = key.split(".")
    place: Any = data
    for part in path:
        place = place[_index(place, part, key)] if isinstance(place, list) else place.setdefault(part, {})
        if not isinstance(place, dict | list):
            raise RecipeError(
                given=f"{key}: {part} is {place!r}, not a group of settings",
                rule="a dotted key leads through groups of settings",
                remedy=f"set {part} itself, or correct the key",
            )
    place[_index(place, last, key) if isinstance(place, list) else last] = value


def _index(place: list[Any], part: str, key: str) -> int:
    if not part.isdigit() or int(part) >= len(place):
        raise RecipeError(
            given=f"{key}: there is no entry {part}",
            rule=f"entries of a list are numbered from 0, here to {len(place) - 1}",
            remedy="correct the number",
        )
    return int(part)


def flatten(data: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Dotted key and value of every leaf. An empty mapping or list is a leaf, and so is a list of plain values."""
    entries: list[tuple[str, object]] = []
    if isinstance(data, Mapping):
        entries = [(str(key), value) for key, value in data.items()]
    elif isinstance(data, list | tuple) and any(isinstance(value, Mapping) for value in data):
        entries = [(str(index), value) for index, value in enumerate(data)]
    if not entries:
        yield prefix, data
    for key, value in entries:
        yield from flatten(value, f"{prefix}.{key}" if prefix else key)


def dump_yaml(data: Mapping[str, Any], origins: Mapping[str, str], names: Mapping[str, str] | None = None) -> str:
    """YAML with the origin of every value as a comment.

    Args:
        data: nested mappings and lists of plain values.
        origins: dotted key → origin, such as "default", "recipe.yaml", "command line".
        names: dotted key → name that is written instead of its last part; None: all names are written as they are.
    """
    return "".join(line + "\n" for line in _lines(data, origins, "", "", names or {}))


def _lines(
    data: object, origins: Mapping[str, str], prefix: str, indent: str, names: Mapping[str, str]
) -> Iterator[str]:
    if isinstance(data, Mapping):
        for key, value in data.items():
            name = names.get(f"{prefix}{key}", key)
            yield from _entry(f"{indent}{name}:", value, origins, f"{prefix}{key}", indent, names)
    elif isinstance(data, list | tuple):
        for index, value in enumerate(data):
            if not isinstance(value, Mapping):  # a plain value in a list of mappings
                yield from _entry(f"{indent}-", value, origins, f"{prefix}{index}", indent, names)
                continue
            first, *rest = _lines(value, origins, f"{prefix}{index}.", indent + "  ", names)
            yield f"{indent}- {first.lstrip()}"
            yield from rest


def _entry(
    head: str, value: object, origins: Mapping[str, str], key: str, indent: str, names: Mapping[str, str]
) -> Iterator[str]:
    if [leaf for leaf, _ in flatten(value)] != [""]:
        yield head
        yield from _lines(value, origins, key + ".", indent + "  ", names)
        return
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True, width=10**6, allow_unicode=True).removesuffix("\n")
    origin = f"  # {origins[key]}" if key in origins else ""
    yield f"{head} {text.removesuffix('...').rstrip()}{origin}"
