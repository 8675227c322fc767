"""Inputs near those of the tests, which tell a mutant from the solution.

They keep what all inputs of the tests have in common, since a solution may rely on it: signs, alphabets, sorted lists,
lists without repetition, lengths that are equal to each other or to a number (after Ernst et al., "Dynamically
discovering likely program invariants", 2001). Pure functions.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Any

from burnish.sandbox.tests import CallTest

_TRIES = 12
"""Tries for each input that is wanted."""
_OTHER_CALL = 0.3
"""Share of changes that take an argument of another call instead of a new value."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What the values of one argument have in common."""

    numbers: tuple[float, ...]
    alphabet: str
    """Characters of its texts."""
    empty: bool
    """Whether an empty text or list occurs."""
    sorted: bool
    """Whether all lists are in ascending order."""
    distinct: bool
    """Whether no list repeats an element."""

    @classmethod
    def of(cls, values: Sequence[object]) -> Traits:
        """Traits of values, those inside of them included."""
        inside = [inner for value in values for inner in _inside(value)]
        lists = [value for value in inside if isinstance(value, list | tuple)]
        long = [value for value in lists if len(value) > 1]
        return cls(
            tuple(float(value) for value in inside if _is_number(value) and abs(value) < 1e300),  # type: ignore[arg-type]
            "".join(sorted({letter for value in inside if isinstance(value, str) for letter in value})),
            any(isinstance(value, str | list | tuple | dict | set) and not value for value in inside),
            bool(long) and all(_ascending(value) for value in long),
            bool(long) and all(len({repr(entry) for entry in value}) == len(value) for value in long),
        )

    @property
    def bounds(self) -> tuple[int, int]:
        """Smallest and largest number of a new value: signs stay, twice the largest is allowed."""
        low, high = int(min(self.numbers, default=0)), int(max(self.numbers, default=0))
        floor = 1 if low >= 1 else 0 if low >= 0 else 2 * low - 2
        return floor, 2 * high + 2 if high >= 0 else -1


def calls_near(calls: Sequence[CallTest], count: int, generator: random.Random) -> list[CallTest]:
    """The calls and new ones near them, at most ``count``, each once; expected values are not right."""
    found: dict[str, CallTest] = {}
    for call in calls[: max(1, count // 2)]:
        found.setdefault(_key(call), call)
    families = {call.function: [other for other in calls if other.function == call.function] for call in calls}
    allowed = {function: _relations(family) for function, family in families.items()}
    for _ in range(_TRIES * count if calls else 0):
        if len(found) >= count:
            break
        base = generator.choice(calls)
        new = _changed_call(base, families[base.function], generator)
        if all(holds(new) for holds in allowed[base.function]):
            found.setdefault(_key(new), new)
    return list(found.values())


def texts_near(texts: Sequence[str], count: int, generator: random.Random) -> list[str]:
    """Texts of standard input and new ones near them, at most ``count``, each once.

    Of each new text one number or word is another one. The first of several lines stays, since it often has a length.
    """
    found = dict.fromkeys(texts[: max(1, count // 2)])
    for _ in range(_TRIES * count if texts else 0):
        if len(found) >= count:
            break
        found.setdefault(_changed_text(generator.choice(texts), generator))
    return list(found)


def varied(value: Any, traits: Traits, generator: random.Random) -> Any:
    """Another value of the same type, near this one; the value itself where there is none."""
    match value:
        case bool():
            return not value
        case int():
            low, high = traits.bounds
            near = (value + 1, value - 1, value + generator.randint(-5, 5), generator.randint(low, max(low, high)))
            return min(max(generator.choice(near), low), max(low, high))
        case float():
            floor = float(traits.bounds[0] if traits.bounds[0] < 0 else 0)
            return max(round(value + generator.choice((0.5, -0.5, 1.0, -1.0, value)), 6), floor)
        case str():
            letters = [*traits.alphabet] or ["a"]
            return "".join(_changed_list([*value], traits, generator, lambda _: generator.choice(letters)))
        case list() | tuple():
            entries = _changed_list([*value], traits, generator, lambda entry: varied(entry, traits, generator))
            if traits.distinct:
                entries = list({repr(entry): entry for entry in entries}.values())
            if traits.sorted and _sortable(entries):
                entries.sort()
            return type(value)(entries)
        case dict() if value:
            key = generator.choice(list(value))
            return {**value, key: varied(value[key], traits, generator)}
        case set() if value:
            entries = _changed_list(sorted(value, key=repr), traits, generator, lambda e: varied(e, traits, generator))
            return set(entries)
    return value


def _changed_list(
    entries: list[Any], traits: Traits, generator: random.Random, vary: Callable[[Any], Any]
) -> list[Any]:
    """Entries with one change: one varied, dropped, repeated, moved, or all reversed."""
    if not entries:
        return entries
    at, to = generator.randrange(len(entries)), generator.randrange(len(entries))
    choice = generator.choice(("vary", "vary", "drop", "repeat", "swap", "reverse"))
    if choice == "drop" and (len(entries) > 1 or traits.empty):
        return entries[:at] + entries[at + 1 :]
    if choice == "repeat":
        return [*entries[:to], entries[at], *entries[to:]]
    if choice == "reverse":
        return entries[::-1]
    changed = list(entries)
    if choice == "swap":
        changed[at], changed[to] = changed[to], changed[at]
    else:
        changed[at] = vary(entries[at])
    return changed


def _changed_call(base: CallTest, family: Sequence[CallTest], generator: random.Random) -> CallTest:
    """A call with one or two other arguments."""
    arguments, keywords = list(base.arguments), dict(base.keywords)
    places: list[int | str] = [*range(len(arguments)), *keywords]
    for place in generator.sample(places, min(len(places), generator.choice((1, 1, 2)))):
        column = [value for call in family for value in _argument(call, place)]
        value = arguments[place] if isinstance(place, int) else keywords[place]
        new = (
            generator.choice(column)
            if generator.random() < _OTHER_CALL
            else varied(value, Traits.of(column), generator)
        )
        if isinstance(place, int):
            arguments[place] = new
        else:
            keywords[place] = new
    return replace(base, arguments=tuple(arguments), keywords=keywords, expected=None)


def _argument(call: CallTest, place: int | str) -> Iterator[Any]:
    """The argument at a place, if the call has one there."""
    if isinstance(place, str):
        if place in call.keywords:
            yield call.keywords[place]
    elif place < len(call.arguments):
        yield call.arguments[place]


def _relations(family: Sequence[CallTest]) -> list[Callable[[CallTest], bool]]:
    """Relations between numbers and lengths of arguments that hold in all calls, if there are at least two."""
    if len(family) < 2:
        return []
    features = [_features(call) for call in family]
    shared = sorted(set.intersection(*(set(entry) for entry in features)))
    equal = [
        (one, other)
        for one, other in combinations(shared, 2)
        if all(entry[one] == entry[other] for entry in features) and len({entry[one] for entry in features}) > 1
    ]
    below = [
        (one, other)
        for one in shared
        for other in shared
        if one.startswith("value")
        and other.startswith("length")
        and all(entry[one] < entry[other] for entry in features)
    ]

    def equality(one: str, other: str) -> Callable[[CallTest], bool]:
        return lambda call: _features(call).get(one) == _features(call).get(other)

    def order(one: str, other: str) -> Callable[[CallTest], bool]:
        return lambda call: _features(call).get(one, 0) < _features(call).get(other, 0)

    return [equality(*pair) for pair in equal] + [order(*pair) for pair in below]


def _features(call: CallTest) -> dict[str, int]:
    """Numbers and lengths of positional arguments. Example: of ``f(2, "abc")`` ``{"value 0": 2, "length 1": 3}``."""
    found = {}
    for place, value in enumerate(call.arguments):
        if isinstance(value, int) and not isinstance(value, bool):
            found[f"value {place}"] = value
        elif isinstance(value, str | list | tuple | dict | set):
            found[f"length {place}"] = len(value)
    return found


_TOKEN = re.compile(r"-?\d+(?:\.\d+)?|[^\W\d]+")


def _changed_text(text: str, generator: random.Random) -> str:
    first_end = text.find("\n") + 1 if text.strip().count("\n") else 0
    tokens = list(_TOKEN.finditer(text, first_end)) or list(_TOKEN.finditer(text))
    if not tokens:
        return text
    token = generator.choice(tokens)
    peers = [other[0] for other in tokens if other[0].isalpha() == token[0].isalpha()]
    value: Any = _number(token[0])
    traits = Traits.of([_number(peer) for peer in peers])
    new = generator.choice(peers) if generator.random() < _OTHER_CALL else str(varied(value, traits, generator))
    return text[: token.start()] + (new or token[0]) + text[token.end() :]


def _number(token: str) -> int | float | str:
    """A token as a number, if it is the usual text of one."""
    try:
        number = float(token) if "." in token else int(token)
    except ValueError:
        return token
    return number if str(number) == token else token


def _inside(value: object) -> Iterator[object]:
    yield value
    if isinstance(value, list | tuple | set):
        for entry in value:
            yield from _inside(entry)
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from _inside(key)
            yield from _inside(entry)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sortable(entries: Sequence[Any]) -> bool:
    kinds = {type(entry) for entry in entries}
    return kinds <= {int, float} or kinds == {str}


def _ascending(entries: Sequence[Any]) -> bool:
    return _sortable(entries) and all(one <= other for one, other in pairwise(entries))


def _key(call: CallTest) -> str:
    return repr((call.function, call.arguments, sorted(call.keywords.items())))
