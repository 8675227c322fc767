"""Reads Python source without running it: syntax trees, the names that it defines and that it uses. Pure functions."""

from __future__ import annotations

import ast
import builtins
import warnings
from collections.abc import Iterator, Sequence

BUILTINS = frozenset(dir(builtins))
"""Names that Python defines."""
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def parsed(source: str) -> ast.Module | None:
    """Syntax tree of a program; None: it is no Python, or nested too deeply for the parser."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the text of a model are not ours
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def fault_line(source: str) -> int | None:
    """Line, from 1, at which a program cannot be compiled, 0 if it is not known; None: it can be.

    Compiling finds more than the parser: a ``return`` outside of a function.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, "<program>", "exec", dont_inherit=True)
    except SyntaxError as error:
        return error.lineno or 0
    except (ValueError, RecursionError, MemoryError):
        return 0
    return None


def ends_in_text(source: str) -> bool:
    """Whether a program ends within a text of triple quotes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
    except SyntaxError as error:
        return "unterminated triple-quoted" in str(error.msg)
    except (ValueError, RecursionError, MemoryError):
        return False
    return False


def defined(statements: Sequence[ast.stmt]) -> frozenset[str]:
    """Names that statements bind where they stand; ``Class.method`` too.

    A loop or a condition at the top level of a program binds names there too. Not recursive: an ``elif`` stands within
    the one before it, so the text of a response can be nested as deeply as it is long.
    """
    names: set[str] = set()
    pending: list[ast.AST] = list(statements)
    while pending:
        match pending.pop():
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.ClassDef(name=name, body=body):
                names |= {name, *(f"{name}.{each.name}" for each in body if isinstance(each, _Function))}
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                names |= {(alias.asname or alias.name).partition(".")[0] for alias in aliases}
            case ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
            case node if not isinstance(node, _SCOPES):
                pending += ast.iter_child_nodes(node)
    return frozenset(names)


_SCOPES = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def used(node: ast.AST) -> Iterator[str]:
    """Names that are read anywhere in a tree, in the order of the source, also twice."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        yield node.id
    for child in ast.iter_child_nodes(node):
        yield from used(child)


def free_names(statements: Sequence[ast.stmt]) -> list[str]:
    """Names that statements read and nothing in them binds; each once, in the order of the source. Builtins are left
    out, unless there is nothing else: a tested function may be called ``sum``.

    Example: of ``assert math.isclose(area(2), 4)`` they are ``math`` and ``area``.
    """
    bound = {name for statement in statements for name in _bound_inside(statement)}
    found = (name for statement in statements for name in used(statement))
    free = [name for name in dict.fromkeys(found) if name not in bound]
    return [name for name in free if name not in BUILTINS] or free


def unbound(tree: ast.Module) -> list[str]:
    """Names that a program reads, and binds nowhere, sorted; [] if it imports all names of a module.

    Not recursive, as `defined`.
    """
    nodes = list(ast.walk(tree))
    read = [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
    bound = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    for node in nodes:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                bound.add(name)
            case ast.alias(name="*"):
                return []
            case ast.alias():
                bound.add((node.asname or node.name).partition(".")[0])
            case ast.arg(arg=name):
                bound.add(name)
    return sorted(set(read) - bound - BUILTINS)


def _bound_inside(node: ast.AST) -> Iterator[str]:
    """Names that a tree binds anywhere: also parameters, and variables of loops and comprehensions."""
    for each in ast.walk(node):
        match each:
            case ast.Name(ctx=ast.Store()):
                yield each.id
            case ast.arg():
                yield each.arg
            case ast.stmt():
                yield from defined([each])
            case ast.ExceptHandler(name=str(name)):
                yield name


def called(statements: Sequence[ast.stmt], names: Sequence[str]) -> list[str]:
    """Those of the names that statements call."""
    calls = (each.func for statement in statements for each in ast.walk(statement) if isinstance(each, ast.Call))
    targets = {function.id for function in calls if isinstance(function, ast.Name)}
    return [name for name in names if name in targets]


def does_something(tree: ast.Module) -> bool:
    """Whether a program has more than bare names and values, of which prose may consist: "Yes" is Python too."""
    return any(not _is_bare(statement) for statement in tree.body)


def _is_bare(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and not any(isinstance(each, ast.Call) for each in ast.walk(statement))
    )


def function_in(tree: ast.Module, name: str) -> _Function | None:
    """The last function of this name at the top level, or the method of a class of ``Class.method``; None: none."""
    owner, _, method = name.rpartition(".")
    body: Sequence[ast.stmt] = tree.body
    if owner:
        classes = [each for each in tree.body if isinstance(each, ast.ClassDef) and each.name == owner]
        body = classes[-1].body if classes else ()
    functions = [each for each in body if isinstance(each, _Function) and each.name == (method or name)]
    return functions[-1] if functions else None


def size(function: _Function | None) -> int:
    """Number of statements of a function that do something, nested ones too; 0 of None."""
    if function is None:
        return 0
    return sum(isinstance(each, ast.stmt) and not _is_bare(each) for each in ast.walk(function)) - 1
