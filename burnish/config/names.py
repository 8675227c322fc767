"""Suggestions for unknown keys: a renamed key, a key of another group, of another stage or tool, a similar key.

One suggestion is made, of the first kind that there is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

from burnish.errors import RecipeError
from burnish.similar import similar

NO_NAMES: Mapping[str, str] = MappingProxyType({})
LISTED = 20
"""Number of keys of a group that are listed where none is similar; the command line searches longer lists."""

Elsewhere = Callable[[str], Sequence[str]]
"""Name of a key → names of the stages, other than the one at hand, that have it."""


def unknown_name(
    path: str,
    written: str,
    known: Sequence[str],
    siblings: Collection[str],
    known_elsewhere: Mapping[str, str],
    renamed: Mapping[str, str] = NO_NAMES,
    stages_with: Elsewhere = lambda _: (),
) -> RecipeError:
    """The error for an unknown dotted key.

    Args:
        path: the key as the message names it.
        written: the key relative to the record in which users name it.
        known: dotted keys of that record, groups included, and of the records around it.
        siblings: the known keys at the level of the unknown one.
        known_elsewhere, renamed: see `settings.parse`.
        stages_with: stages that have a key of this name, for keys that this stage lacks.
    """
    name = _last(written)
    if target := _ending_with(renamed.get(name, ""), known):
        remedy = f"did you mean {target}?"
    elif places := _fewest_dots([key for key in known if _last(key) == name]):
        remedy = _moved(path, written, places)
    elif name in known_elsewhere:
        remedy = _of_another_tool(known_elsewhere[name], known, renamed, stages_with)
    elif stages := stages_with(name):
        remedy = f"remove it here: {name} is a setting of a stage {' or '.join(stages)}"
    elif near := _nearest(written, known, siblings):
        remedy = f"did you mean {near}?"
    elif len(siblings) <= LISTED:
        remedy = f"choose from: {', '.join(sorted(map(_last, siblings)))}"
    else:
        remedy = "`burnish keys` lists the keys of all stages, `burnish keys WORD` searches them"
    return RecipeError(
        given=f"unknown key {path}", rule="every key of a recipe is one that Burnish knows", remedy=remedy
    )


def joined(errors: Sequence[RecipeError]) -> RecipeError:
    """One error for several unknown keys, with a line for each."""
    if len(errors) == 1:
        return errors[0]
    names = [error.given.removeprefix("unknown key ") for error in errors]
    lines = (f"\n    {name}: {error.remedy}" for name, error in zip(names, errors, strict=True))
    return RecipeError(
        given=f"unknown keys {', '.join(names)}",
        rule=errors[0].rule,
        remedy=f"correct {len(errors)} keys{''.join(lines)}",
    )


def _moved(path: str, written: str, places: Sequence[str]) -> str:
    """Remedy for a key at a wrong level; in a recipe, a key of a stage is written below it."""
    match [place.partition(".*.") for place in places]:
        case [(outer, ".*.", inner), *_]:
            stage, _, key = inner.partition(".")
            return f"write it below a stage: `{outer}: [{{{stage}: {{{key}: …}}}}]`"
    return f"did you mean {' or '.join(places)}{_in_its_place(path, written, places)}?"


def _of_another_tool(ours: str, known: Collection[str], renamed: Mapping[str, str], stages_with: Elsewhere) -> str:
    """Names our key for another tool's; instead of one that this stage lacks, its counterpart here, or also the stages
    that have it."""
    key = ours.partition(" ")[0].rstrip(",:;")
    if key not in known and (counterpart := _ending_with(renamed.get(_last(key), ""), known)):
        return f"here it is {counterpart}"
    if key in ("not", "always", "a"):  # a remark that names no key
        return ours
    stages = () if key in known else stages_with(_last(key))
    return f"here it is {ours}" + (f", a setting of a stage {' or '.join(stages)}" if stages else "")


def _in_its_place(path: str, written: str, places: Collection[str]) -> str:
    """Clause that contrasts a key at the wrong level with the suggested one; "" where it says nothing."""
    if written in places:
        return f", not {path}" if path not in places else ""
    return f", not {written}" if "." in written else ""


def _ending_with(target: str, known: Iterable[str]) -> str | None:
    """The shortest known key that ends with the target; None: there is none."""
    matches = [key for key in known if target and f".{key}".endswith(f".{target}")]
    return min(matches, key=len, default=None)


def _fewest_dots(names: Collection[str]) -> list[str]:
    fewest = min((key.count(".") for key in names), default=0)
    return [key for key in names if key.count(".") == fewest]


def _nearest(written: str, known: Iterable[str], siblings: Collection[str]) -> str | None:
    """The most similar key: of the same level or by the whole key; or else of any level, by its last part."""
    keys = list(known)
    level = {_last(key): key for key in keys if key in siblings}
    whole = {} if "." in written else {key.replace(".", "_"): key for key in keys}
    for names in ({**whole, **level}, {_last(key): key for key in reversed(keys)}):
        if near := similar(_last(written), names):
            return names[near[0]]
    return None


def _last(key: str) -> str:
    return key.rpartition(".")[2]
