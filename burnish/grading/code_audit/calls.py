"""What tests use of a program, read from their text: tested names, calls with plain arguments, expected values.

Pure functions; nothing is run. The wrong programs of `sandbox.wrong_programs` define these names, and `probes` varies
these arguments.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from burnish.rewards.code.syntax import called, defined, free_names, parsed
from burnish.sandbox.tests import AssertTest, CallTest, StdinTest, TestSuite
from burnish.sandbox.wrong_programs import TestedNames

_MAX_CHARACTERS = 20_000
"""Arguments of more characters are not varied."""


@dataclass(frozen=True, slots=True)
class KnownCall:
    """Call in a test with plain arguments. Example: that of ``assert add(1, 2) == 3``, with ``expects=True``."""

    test: CallTest
    """The call; its expected value counts only if `expects` is true."""
    expects: bool


def names_used_by(suite: TestSuite, gold: str | None) -> TestedNames:
    """Functions and classes of the program that the tests use; none of tests of standard output.

    Args:
        suite: the tests.
        gold: the solution, which says what is a class; None: a name with a capital is one.
    """
    match suite.tests[0]:
        case CallTest():
            names = (test.function for test in suite.tests if isinstance(test, CallTest))
            return TestedNames(tuple(dict.fromkeys(names)))
        case StdinTest():
            return TestedNames(())
    statements = _statements(suite)
    names_used = suite.names if suite.names is not None else free_names(statements)
    classes = _classes(gold, names_used)
    functions = called(statements, [name for name in names_used if name not in classes])
    return TestedNames(tuple(functions), tuple(name for name in names_used if name in classes))


def known_calls(suite: TestSuite, names: TestedNames) -> list[KnownCall]:
    """Calls of the tests with plain arguments, each once, in their order."""
    if isinstance(suite.tests[0], CallTest):
        found = [KnownCall(test, expects=True) for test in suite.tests if isinstance(test, CallTest)]
    else:
        found = [call for statement in _statements(suite) for call in _calls_in(statement, names)]
    each: dict[str, KnownCall] = {}
    for call in found:
        each.setdefault(repr((call.test.function, call.test.arguments, call.test.keywords)), call)
    return [call for key, call in each.items() if len(key) <= _MAX_CHARACTERS]


def expected_values(calls: Sequence[KnownCall]) -> list[object]:
    """Expected values of the calls that have one, in their order."""
    return [call.test.expected for call in calls if call.expects]


_HINTS = {
    "exit": re.compile(r"\bsys\.exit\b|\bos\._exit\b|\bquit\(|\bexit\("),
    "time": re.compile(r"\btime\.(?:time|sleep|perf_counter|monotonic)\b|\bdatetime\.(?:now|today)\b|\.now\(\)"),
    "random": re.compile(r"\brandom\.\w+|\bnp\.random\b|\buuid\d?\b|\bsecrets\b"),
    "network": re.compile(r"\b(?:requests|urllib|socket|http\.client|httpx|aiohttp)\b"),
    "files": re.compile(r"\bopen\(|\bos\.(?:path|listdir|remove|environ)\b|\bshutil\b|\bsubprocess\b|\bos\.system\b"),
}
_SEEDED = re.compile(r"\brandom\.seed\(|\bRandom\(\d|default_rng\(\d")


def hints(suite: TestSuite) -> list[str]:
    """What the text of assert tests depends on besides the program: exit, time, random, network, files."""
    source = "\n".join([suite.setup, *(test.source for test in suite.tests if isinstance(test, AssertTest))])
    found = [name for name, pattern in _HINTS.items() if pattern.search(source)]
    return [name for name in found if name != "random" or not _SEEDED.search(source)]


def _statements(suite: TestSuite) -> list[ast.stmt]:
    sources = [suite.setup, *(test.source for test in suite.tests if isinstance(test, AssertTest))]
    return [statement for source in sources if (tree := parsed(source)) is not None for statement in tree.body]


def _classes(gold: str | None, names: Sequence[str]) -> set[str]:
    tree = None if gold is None else parsed(gold)
    if tree is None:
        return {name for name in names if name[:1].isupper()}
    return {name for each in tree.body if isinstance(each, ast.ClassDef) for name in defined([each])}


def _calls_in(statement: ast.stmt, names: TestedNames) -> Iterator[KnownCall]:
    """Calls anywhere in a statement; a comparison with == gives the expected value."""
    expected = {id(call): value for node in ast.walk(statement) for call, value in _comparisons(node)}
    for node in ast.walk(statement):
        if not isinstance(node, ast.Call):
            continue
        function = _called_name(node, names)
        if function is None:
            continue
        try:
            arguments = tuple(ast.literal_eval(argument) for argument in node.args)
            keywords = {each.arg: ast.literal_eval(each.value) for each in node.keywords if each.arg is not None}
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
        if len(keywords) == len(node.keywords):
            known = id(node) in expected
            yield KnownCall(CallTest(function, arguments, keywords, expected.get(id(node))), known)


def _called_name(node: ast.Call, names: TestedNames) -> str | None:
    """Name of the tested function that is called; ``Class.method`` of ``Class().method(…)``."""
    match node.func:
        case ast.Name(id=name) if name in names.functions:
            return name
        case ast.Attribute(attr=method, value=ast.Call(func=ast.Name(id=owner), args=[], keywords=[])) if (
            owner in names.classes
        ):
            return f"{owner}.{method}"
    return None


def _comparisons(node: ast.AST) -> Iterator[tuple[ast.expr, object]]:
    """(Side, plain value of the other side) of a comparison with == or is, or of the arguments of assertEqual."""
    sides: tuple[ast.expr, ...] = ()
    match node:
        case ast.Compare(left=left, ops=[ast.Eq() | ast.Is()], comparators=[right]):
            sides = (left, right)
        case ast.Call(func=ast.Attribute(attr="assertEqual"), args=[left, right, *_]):
            sides = (left, right)
    for side, other in zip(sides, reversed(sides), strict=True):
        try:
            yield side, ast.literal_eval(other)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
