"""Suggestions for unknown keys: a renamed key, a key of another group, another tool's key, the most similar key."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

from burnish.errors import RecipeError

NO_NAMES: Mapping[str, str] = MappingProxyType({})


def unknown_name(
    path: str,
    written: str,
    known: Sequence[str],
    siblings: Collection[str],
    known_elsewhere: Mapping[str, str],
    renamed: Mapping[str, str] = NO_NAMES,
) -> RecipeError:
    """The error for an unknown dotted key.

    Args:
        path: the key as the message names it.
        written: the key relative to the record in which users name it.
        known: dotted keys of that record, groups included, and of the records around it.
        siblings: the known keys at the level of the unknown one.
        known_elsewhere, renamed: see `settings.parse`.
    """
    name = _last(written)
    if target := _ending_with(renamed.get(name, ""), known):
        remedy = f"did you mean {target}?"
    elif places := _fewest_dots([key for key in known if _last(key) == name]):
        remedy = f"did you mean {' or '.join(places)}{_in_its_place(path, written, places)}?"
    elif name in known_elsewhere:
        remedy = f"here it is {known_elsewhere[name]}"
    elif near := _nearest(written, known, siblings):
        remedy = f"did you mean {near}?"
    else:
        remedy = f"choose from: {', '.join(sorted(map(_last, siblings)))}"
    return RecipeError(
        given=f"unknown key {path}", rule="every key of a recipe is one that Burnish knows", remedy=remedy
    )


def _in_its_place(path: str, written: str, places: Collection[str]) -> str:
    """Clause that contrasts a key at the wrong level with the suggested one; "" where it says nothing."""
    if written in places:
        return f", not {path}"
    return f", not {written}" if "." in written else ""


def _ending_with(target: str, known: Iterable[str]) -> str | None:
    """The shortest known key that ends with the target; None: there is none."""
    matches = [key for key in known if target and f".{key}".endswith(f".{target}")]
    return min(matches, key=len, default=None)


def _fewest_dots(names: Collection[str]) -> list[str]:
    fewest = min((key.count(".") for key in names), default=0)
    return [key for key in names if key.count(".") == fewest]


def _nearest(written: str, known: Iterable[str], siblings: Collection[str]) -> str | None:
    """The most similar key; keys of other groups have to be very similar."""
    group, _, name = written.rpartition(".")
    alike = [(max(_similarity(_last(key), name), 0 if group else _similarity(key, name)), key) for key in known]
    good = [(ratio, key in siblings, key) for ratio, key in alike if ratio >= (0.5 if key in siblings else 0.8)]
    return max(good)[2] if good else None


def _similarity(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _last(key: str) -> str:
    return key.rpartition(".")[2]
