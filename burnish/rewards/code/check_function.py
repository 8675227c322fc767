"""Tests of one ``check(candidate)`` function (HumanEval's form) as separate assert tests, where that says the same.

HumanEval (Chen et al. 2021, arXiv 2107.03374) has one function with all asserts of a row. One test for each assert
gives the share of those that passed. A function whose asserts depend on each other stays one test.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from burnish.rewards.code.syntax import used
from burnish.sandbox.tests import AssertTest

CHECK = "check"
"""Name of the function."""
_SETUP = (ast.Assign, ast.AnnAssign, ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
_TESTED = (ast.Assert, ast.For, ast.If, ast.With, ast.Try)


def check_tests(source: str, check: ast.FunctionDef, entry_point: str) -> tuple[str, tuple[AssertTest, ...]]:
    """Setup and tests of a row whose source defines ``check(candidate)``.

    Args:
        source: source text with the function.
        check: the function in its syntax tree.
        entry_point: name of the tested function.

    Returns:
        The source, without the function if its asserts became tests of their own; the tests, at least one.
    """
    units = _units(check)
    if units is None:
        return source, (AssertTest(f"{CHECK}({entry_point})"),)
    lines = source.split("\n")
    first = min([check.lineno, *(each.lineno for each in check.decorator_list)])
    setup = "\n".join([*lines[: first - 1], *lines[check.end_lineno :]]).strip("\n")
    candidate = check.args.args[0].arg
    return setup, tuple(AssertTest(_function(unit, candidate, entry_point)) for unit in units)


def _units(check: ast.FunctionDef) -> list[list[ast.stmt]] | None:
    """Statements of each test: an assert, or a loop with asserts, after the assignments that it reads; None: the
    asserts depend on each other, or there is only one.

    Two tests that read one variable might change its value, unless it is a number or a text.
    """
    if len(check.args.args) != 1 or check.args.vararg or check.args.kwarg or check.args.kwonlyargs:
        return None
    setup: list[ast.stmt] = []
    units: list[list[ast.stmt]] = []
    readers: dict[str, int] = {}
    for statement in check.body:
        if _is_constant(statement):
            continue
        if _has_assert(statement):
            if not isinstance(statement, _TESTED):
                return None
            names = _needed(statement, setup)
            for name in names:
                readers[name] = readers.get(name, 0) + 1
            units.append([*(each for each in setup if _binds(each) & names), statement])
        elif isinstance(statement, _SETUP) and not _binds(statement) & _bound(setup):
            setup.append(statement)
        else:
            return None
    shared = {name for name, count in readers.items() if count > 1}
    independent = all(_is_unchanging(each) for each in setup if _binds(each) & shared)
    return units if independent and len(units) > 1 and not _rebinds(units, setup) else None


def _needed(statement: ast.stmt, setup: Sequence[ast.stmt]) -> set[str]:
    """Names of the setup that a statement reads, directly or by other statements of the setup."""
    names = set(used(statement))
    for earlier in reversed(setup):
        if _binds(earlier) & names:
            names |= set(used(earlier))
    return names & _bound(setup)


def _binds(statement: ast.AST) -> set[str]:
    """Names that a statement of the setup, or any statement within it, may bind."""
    match statement:
        case ast.FunctionDef() | ast.ClassDef():
            return {statement.name}
        case ast.Import() | ast.ImportFrom():
            return {(alias.asname or alias.name).partition(".")[0] for alias in statement.names}
        case _:
            stores = (each for each in ast.walk(statement) if isinstance(each, ast.Name))
            return {each.id for each in stores if not isinstance(each.ctx, ast.Load)}


def _bound(setup: Sequence[ast.stmt]) -> set[str]:
    return {name for statement in setup for name in _binds(statement)}


def _rebinds(units: Sequence[Sequence[ast.stmt]], setup: Sequence[ast.stmt]) -> bool:
    """Whether a test assigns a name of the setup, which a later test would see."""
    return any(_binds(unit[-1]) & _bound(setup) for unit in units)


def _is_unchanging(statement: ast.stmt) -> bool:
    """Whether a statement binds what no test can change: a number, a text, a function, a module."""
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return isinstance(statement.value, ast.Constant) and all(isinstance(each, ast.Name) for each in targets)
    return isinstance(statement, ast.FunctionDef | ast.Import | ast.ImportFrom)


def _has_assert(statement: ast.stmt) -> bool:
    is_definition = isinstance(statement, ast.FunctionDef | ast.ClassDef)
    return not is_definition and any(isinstance(each, ast.Assert) for each in ast.walk(statement))


def _is_constant(statement: ast.stmt) -> bool:
    """Whether a statement tests nothing: a docstring, ``pass``, ``assert True``."""
    match statement:
        case ast.Expr(value=ast.Constant()) | ast.Pass():
            return True
        case ast.Assert(test=ast.Constant(value=True)):
            return True
    return False


def _function(unit: Sequence[ast.stmt], candidate: str, entry_point: str) -> str:
    body = "\n".join(f"    {line}" for line in _lines(unit))
    return f"def {CHECK}({candidate}):\n{body}\n\n{CHECK}({entry_point})"


def _lines(unit: Sequence[ast.stmt]) -> Iterator[str]:
    for statement in unit:
        yield from ast.unparse(statement).split("\n")
