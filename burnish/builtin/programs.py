"""Small programming tasks with their solutions, composed of parts: lists, ranges, choices and text.

`code` draws tasks and gives them tests. A task names what a function `f` returns; its solution is one expression. Of
tasks with the same behavior the first is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import compress, product
from types import MappingProxyType
from typing import Any, Literal

from burnish.builtin.arithmetic import Use
from burnish.builtin.draw import Draw, bucket
from burnish.builtin.exercises import WORDS

CodeKind = Literal["list", "range", "choice", "text"]
KINDS: tuple[CodeKind, ...] = ("list", "range", "choice", "text")
ENTRY_POINT = "f"
"""Name of the function that every task asks for."""
NUM_INPUTS = 40
"""Inputs of each kind, from which the tests of its tasks are drawn."""
_PARAMETERS: Mapping[CodeKind, str] = MappingProxyType({"list": "xs", "range": "n", "choice": "n", "text": "s"})


@dataclass(frozen=True, slots=True)
class CodeTask:
    """Programming task. Example: ``CodeTask("text", "s, in capital letters", "s.upper()")``."""

    kind: CodeKind
    wanted: str
    """What the function returns, in words."""
    expression: str
    """The solution: an expression of the parameter."""

    @property
    def signature(self) -> str:
        """Call of the function with the name of its parameter: ``f(xs)``."""
        return f"{ENTRY_POINT}({_PARAMETERS[self.kind]})"

    @property
    def solution(self) -> str:
        """The function as source text of two lines."""
        return program(self.kind, self.expression)

    @property
    def use(self) -> Use:
        """Half of the tasks are for chats and reinforcement learning, three tenths for the latter alone, and two tenths
        for tests."""
        number = bucket(f"code {self.expression}")
        return "train" if number < 5 else "rl" if number < 8 else "test"

    @property
    def flawed(self) -> tuple[str, ...]:
        """Expressions with one or more bugs, each of which gives a wrong result for one of the `inputs`."""
        right = results(self.kind, self.expression)
        bugs = bugs_of(self.expression)
        choices = product((False, True), repeat=len(bugs))
        found = (with_bugs(self.expression, tuple(compress(bugs, chosen))) for chosen in choices)
        return tuple(other for other in found if results(self.kind, other) != right)


@dataclass(frozen=True, slots=True)
class Bug:
    """Plausible bug: a pattern in an expression, and what is written instead."""

    pattern: re.Pattern[str]
    written: str


@dataclass(frozen=True, slots=True)
class _Part:
    """Part of a task in words, and in Python. What is in braces is filled in."""

    words: str
    code: str


def program(kind: CodeKind, expression: str) -> str:
    """Source of a function that returns an expression. Example: ``program("text", "s[0]")``."""
    return f"def {ENTRY_POINT}({_PARAMETERS[kind]}):\n    return {expression}"


def with_bugs(expression: str, bugs: tuple[Bug, ...]) -> str:
    """The expression with bugs of `bugs_of`."""
    for bug in bugs:
        expression = bug.pattern.sub(bug.written, expression)
    return expression


def bugs_of(expression: str) -> tuple[Bug, ...]:
    """Bugs that an expression may have. Example: ``n>3`` may be written ``n>=3``."""
    return tuple(bug for bug in BUGS if bug.pattern.search(expression))


@cache
def trivial(kind: CodeKind) -> frozenset[tuple[str, ...]]:
    """`results` of functions that do not solve any task: they return their argument, or a constant."""
    return frozenset(results(kind, value) for value in (_PARAMETERS[kind], "0", "1", "None", "[]", "''"))


@cache
def code_tasks(kind: CodeKind) -> tuple[CodeTask, ...]:
    """All tasks of a kind; any two of them differ in a result for one of the `inputs`."""
    found: dict[tuple[str, ...], CodeTask] = {}
    for task in _KINDS[kind]():
        found.setdefault(results(kind, task.expression), task)
    return tuple(task for given, task in found.items() if given not in trivial(kind))


@cache
def inputs(kind: CodeKind) -> tuple[Any, ...]:
    """The `NUM_INPUTS` distinct inputs of a kind; the first are the edges: an empty list, small numbers, a word."""
    draw = Draw(f"code inputs {kind}")
    made: list[Any] = list(_EDGES[kind])
    while len(made) < NUM_INPUTS:
        new = _drawn_input(draw, kind)
        if new not in made:
            made.append(new)
    return tuple(made)


def _drawn_input(draw: Draw, kind: CodeKind) -> Any:
    if kind == "list":
        return [draw.between(-9, 24) for _ in range(draw.between(4, 8))]
    if kind == "text":
        words = " ".join(draw.some(WORDS, draw.between(1, 3)))
        return words.title() if draw.chance(0.3) else words
    return draw.between(-9, 60)


@cache
def results(kind: CodeKind, expression: str) -> tuple[str, ...]:
    """What an expression gives for each of the `inputs`, as text; "error": it raises an exception."""
    function = eval(f"lambda {_PARAMETERS[kind]}: {expression}", {})
    return tuple(_result(function, value) for value in inputs(kind))


def _result(function: Callable[[Any], Any], value: Any) -> str:
    try:
        return repr(function(value))
    except (ValueError, IndexError, TypeError, ZeroDivisionError):
        return "error"


# Conditions and changes of one number, whose name is in braces.
_CONDITIONS = (
    _Part("even", "{}%2==0"),
    _Part("odd", "{}%2==1"),
    *(_Part(f"divisible by {number}", f"{{}}%{number}==0") for number in range(3, 6)),
    *(_Part("", f"{{}}{sign}{number}") for sign, number in product("><", range(2, 7))),
)
"""Those without words are asked for as formulas."""
_CHANGES = (
    "{0}*{0}",
    *(f"{{0}}*{number}" for number in range(2, 5)),
    *(f"{{0}}{sign}{number}" for sign, number in product("+-", range(1, 5))),
)
_TOTALS = (_Part("the sum of", "sum({})"), _Part("a list of", "[{}]"))
_OF_LISTS = (
    *_TOTALS,
    _Part("a sorted list of", "sorted({})"),
    _Part("the largest of", "max(({}), default=0)"),
    _Part("the smallest of", "min(({}), default=0)"),
)


def _lists() -> Iterator[CodeTask]:
    """Totals of the numbers of a list that fulfill a condition, each changed."""
    return _totals("list", "xs", "in xs", _CONDITIONS, _OF_LISTS)


def _ranges() -> Iterator[CodeTask]:
    """Totals of the numbers from 1 to n."""
    conditions = tuple(each for each in _CONDITIONS if "<" not in each.code)  # few results whatever n is
    return _totals("range", "range(1, n+1)", "from 1 to n", conditions, _TOTALS)


def _totals(
    kind: CodeKind, source: str, place: str, conditions: tuple[_Part, ...], totals: tuple[_Part, ...]
) -> Iterator[CodeTask]:
    for condition in (None, *conditions):
        kept = f" if {condition.code.format('x')}" if condition else ""
        those = f" {_said(condition, 'x', 'that is', 'with')}" if condition else ""
        for change, total in product(("{0}", *_CHANGES), totals):
            item = change.format("x")
            empty = ", or 0 if there is none" if "default" in total.code else ""
            wanted = f"{total.words} {item} for every x {place}{those}{empty}"
            yield CodeTask(kind, wanted, total.code.format(f"{item} for x in {source}{kept}"))


def _choices() -> Iterator[CodeTask]:
    """One change of a number under a condition, and another one otherwise."""
    for condition, first, second in product(_CONDITIONS, _CHANGES, _CHANGES):
        if first is not second:
            case, one, other = condition.code.format("n"), first.format("n"), second.format("n")
            wanted = f"{one} if {_said(condition, 'n', 'n is', '')}, otherwise {other}"
            yield CodeTask("choice", wanted, f"{one} if {case} else {other}")


def _said(condition: _Part, name: str, verb: str, preposition: str) -> str:
    """A condition as a question says it: in words after a verb, or as a formula after a preposition."""
    return f"{verb} {condition.words}" if condition.words else f"{preposition} {condition.code.format(name)}".strip()


def _texts() -> Iterator[CodeTask]:
    """Parts of a text, changed."""
    numbers = range(1, 5)
    parts = (
        _Part("s", "s"),
        _Part("the first word of s", "s.split()[0]"),
        _Part("the last word of s", "s.split()[-1]"),
        *(_Part(f"the first {number} characters of s", f"s[:{number}]") for number in numbers),
        *(_Part(f"the last {number} characters of s", f"s[-{number}:]") for number in numbers),
    )
    letters = (_Part("", ""), _Part(", in capital letters", ".upper()"), _Part(", in small letters", ".lower()"))
    orders = (_Part("", ""), _Part(", reversed", "[::-1]"))
    ends = (
        _Part("", ""),
        *(_Part(f", repeated {number} times", f"*{number}") for number in range(2, 5)),
        *(_Part(f", with a {sign} at the end", f"+'{sign}'") for sign in "!?."),
    )
    for part, case, order, end in product(parts, letters, orders, ends):
        words = f"{part.words}{case.words}{order.words}{end.words}".replace(" 1 characters", " character")
        yield CodeTask("text", words, f"{part.code}{case.code}{order.code}{end.code}")


_KINDS: Mapping[CodeKind, Callable[[], Iterator[CodeTask]]] = MappingProxyType(
    {"list": _lists, "range": _ranges, "choice": _choices, "text": _texts}
)
_EDGES: Mapping[CodeKind, Sequence[Any]] = MappingProxyType(
    {"list": ([], [4], [-3, -8]), "range": range(NUM_INPUTS), "choice": range(-2, 12), "text": ("o", "cat")}
)

BUGS = tuple(
    Bug(re.compile(pattern), written)
    for pattern, written in (
        (r"([<>])(\d)", r"\1=\2"),
        (r"%(\d)==0", r"%\1"),
        (r"\(\((.*)\), default=0\)", r"(\1)"),
        (r"range\(1, n\+1\)", r"range(1, n)"),
        (r"\b([xn])\*\1\b", r"\1*2"),
        (r"s\[-(\d):\]", r"s[\1:]"),
        (r"\[::-1\]", r"[-1::]"),
        (r"split\(\)\[0\]", r"split()[1]"),
    )
)
"""A bound that is included, a remainder that is taken for a condition, an empty list that is forgotten, a last number
that is forgotten, a double for a square, the wrong side, an order that is not reversed, words counted from 1."""
