"""Records of tests of programs: calls of a function, assert statements, standard input and output.

`rewards.code` reads them from rows; an `Engine` runs them. Tests never enter the process of the program that is tested.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class CallTest:
    """Call of a function with the result that is expected. Example: ``CallTest("add", (1, 2), expected=3)``."""

    function: str
    """Name in the program; ``Solution.add``: a method of an instance made without arguments."""
    arguments: tuple[Any, ...] = ()
    """Plain values: None, numbers, text, bytes, lists, tuples, sets, dictionaries."""
    keywords: dict[str, Any] = field(default_factory=dict)
    expected: Any = None
    """Numbers are compared by value, floats to a relative 1e-6; list and tuple are alike."""


@dataclass(frozen=True, slots=True)
class AssertTest:
    """Python statements that raise if the program is wrong. Example: ``AssertTest("assert add(1, 2) == 3")``."""

    source: str


@dataclass(frozen=True, slots=True)
class StdinTest:
    """Text for standard input, and the standard output that is expected."""

    stdin: str
    stdout: str
    """Lines are compared word by word, white space does not count; numbers with a point or an exponent to a relative
    1e-6."""


Test = CallTest | AssertTest | StdinTest


@dataclass(frozen=True, slots=True)
class TestSuite:
    """Tests of one program, all of one kind."""

    __test__ = False  # pytest takes the name for a class of tests

    tests: tuple[CallTest, ...] | tuple[AssertTest, ...] | tuple[StdinTest, ...]
    """At least one."""
    setup: str = ""
    """Python statements that run before assert tests, in the process of the tests: imports, helpers."""
    names: tuple[str, ...] | None = None
    """Names that mean the program's although Python or the setup has them too; None: not known. All other names are the
    program's where neither the tests, the setup, Python nor its standard library has them."""

    def __post_init__(self) -> None:
        assert self.tests, "a suite has at least one test"
        assert len({type(test) for test in self.tests}) == 1, "tests of a suite are of one kind"


def call_of(test: AssertTest) -> CallTest | None:
    """The call and the value that an assert statement compares, ``assert f(1, [2]) == 3``; None: it is another one."""
    try:
        match ast.parse(test.source.strip()).body:
            case [
                ast.Assert(
                    test=ast.Compare(
                        left=ast.Call(func=ast.Name(id=name)) as call, ops=[ast.Eq()], comparators=[right]
                    ),
                    msg=None | ast.Constant(),
                )
            ] if all(word.arg for word in call.keywords):
                arguments = tuple(ast.literal_eval(part) for part in call.args)
                keywords = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}
                return CallTest(name, arguments, keywords, ast.literal_eval(right))
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        pass
    return None
