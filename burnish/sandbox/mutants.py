"""Mutants of a program in Python: copies with one small fault each, made from its syntax tree.

Tests that accept a mutant do not notice its fault. Used by `probes` and the audit of code tasks; programs that are no
copies of a solution are in `wrong_programs`. Mutation analysis: DeMillo, Lipton and Sayward, "Hints on test data
selection" (1978). Source text is parsed here and never executed.
"""

from __future__ import annotations

import ast
import copy
import random
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice


class MutantKind(StrEnum):
    """What a mutant tests."""

    EDIT = "edit"
    """The gold solution with one fault."""
    CONSTANT = "constant"
    """A program that does not compute: a constant, its argument, nothing."""
    CONTROL = "control"
    """The result of the attacks without the attack: a text that is no result. Where it passes, tests check nothing."""
    ATTACK = "attack"
    """A program that attacks the tests. It is never right."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """Program that should fail. Example: ``Mutant("off by one: line 2, 1 -> 2", MutantKind.EDIT, "def f(n): ...")``."""

    name: str
    kind: MutantKind
    source: str


Edit = Callable[[ast.AST], None]
"""Changes a node of a copied tree in place."""

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.FloorDiv,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_CALLS = {"min": "max", "max": "min", "any": "all", "all": "any", "ceil": "floor", "floor": "ceil"}


def edited(
    source: str, count: int | None = None, generator: random.Random | None = None, *, script: bool = False
) -> tuple[Mutant, ...]:
    """Mutants of a program with one fault each, in the order of its text; names and sources are unique.

    Every mutant compiles, and differs from the program in more than its layout. (): the program has a syntax error.

    Args:
        source: the program.
        count: largest number of mutants; None: all.
        generator: draws them, so that each sort of fault (text of the name before ":") gets its turn.
        script: whether the program runs as a script; otherwise ``if __name__ == "__main__"`` is left as it is.
    """
    tree = parsed(source)
    if tree is None:
        return ()
    sites = list(_sites(tree, script))
    order = range(len(sites)) if generator is None else _in_turns([site.name for site in sites], generator)
    texts = {ast.unparse(tree)}
    found: dict[int, Mutant] = {}
    for number in order:
        if len(found) == count:
            break
        text = _applied(tree, sites[number])
        if text is not None and text not in texts:
            texts.add(text)
            found[number] = Mutant(sites[number].name, MutantKind.EDIT, text)
    return named_apart(found[number] for number in sorted(found))


def _in_turns(names: Sequence[str], generator: random.Random) -> list[int]:
    """Indices of all names, in rounds with one name of each sort."""
    by_fault: defaultdict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(names):
        by_fault[name.partition(":")[0]].append(index)
    for indices in by_fault.values():
        generator.shuffle(indices)
    rounds = max(map(len, by_fault.values()), default=0)
    return [indices[turn] for turn in range(rounds) for indices in by_fault.values() if turn < len(indices)]


def named_apart(mutants: Iterable[Mutant]) -> tuple[Mutant, ...]:
    """The mutants with a number behind names that occur before."""
    seen: Counter[str] = Counter()
    numbered = []
    for mutant in mutants:
        seen[mutant.name] += 1
        again = "" if seen[mutant.name] == 1 else f" ({seen[mutant.name]})"
        numbered.append(replace(mutant, name=mutant.name + again))
    return tuple(numbered)


def parsed(source: str) -> ast.Module | None:
    """Syntax tree of a program; None: it has a syntax error, or is nested too deeply."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in a solution are not ours
            tree = ast.parse(source)
        ast.unparse(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return tree


@dataclass(frozen=True, slots=True)
class _Site:
    """Place in a syntax tree with an edit."""

    index: int
    """Index of the node in `ast.walk`."""
    name: str
    """Name of the mutant."""
    edit: Edit


def _applied(tree: ast.Module, site: _Site) -> str | None:
    """Text of the program after an edit; None: it does not compile."""
    changed = copy.deepcopy(tree)
    site.edit(next(islice(ast.walk(changed), site.index, None)))
    try:
        text = ast.unparse(ast.fix_missing_locations(changed))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(text, "mutant", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return text


def _sites(tree: ast.Module, script: bool) -> Iterator[_Site]:
    """All places, in the order of the text."""
    skipped = _ids_without_sites(tree, script)
    nodes = [(index, node) for index, node in enumerate(ast.walk(tree)) if id(node) not in skipped]
    nodes.sort(key=lambda entry: (getattr(entry[1], "lineno", 0), getattr(entry[1], "col_offset", 0)))
    for index, node in nodes:
        for name, edit in (*_expression_edits(node), *_statement_edits(node)):
            yield _Site(index, name, edit)


def _ids_without_sites(tree: ast.Module, script: bool) -> set[int]:
    """Ids of nodes whose change no test can notice, or changes no behavior: annotations, the name of the module."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = node.args
            parts = [argument.annotation for argument in (*arguments.posonlyargs, *arguments.args)]
            parts += [argument.annotation for argument in arguments.kwonlyargs] + [node.returns]
        elif isinstance(node, ast.AnnAssign):
            parts = [node.annotation]
        elif isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
            parts = [node.test] if script else [node]
            skipped.add(id(node))
        for part in parts:
            if part is not None:
                skipped.update(id(inner) for inner in ast.walk(part))
    return skipped


def _expression_edits(node: ast.AST) -> Iterator[tuple[str, Edit]]:
    """Names and edits of the faults that an expression can have."""
    where = f"line {getattr(node, 'lineno', 0)}"
    match node:
        case ast.Constant(value=bool() as value):
            yield f"swapped constant: {where}, {value} -> {not value}", _put("value", not value)
        case ast.Constant(value=int() as value):
            for other in (value + 1, value - 1):
                yield f"off by one: {where}, {value:.20g} -> {other:.20g}", _put("value", other)
        case ast.Constant(value=float() as value):
            yield f"off by one: {where}, {value:g} -> {value + 1:g}", _put("value", value + 1)
        case ast.Compare():
            yield from _comparison_edits(node, where)
        case ast.BinOp() | ast.AugAssign():
            other_operator = _OPERATORS.get(type(node.op))
            if other_operator is not None:
                yield (
                    f"swapped operator: {where}, {_named(node.op)} -> {other_operator.__name__}",
                    _put_new("op", other_operator),
                )
        case ast.BoolOp():
            other_word = ast.And if isinstance(node.op, ast.Or) else ast.Or
            yield f"swapped operator: {where}, {_named(node.op)} -> {other_word.__name__}", _put_new("op", other_word)
        case ast.UnaryOp(op=ast.USub()):
            yield f"dropped sign: {where}", _put_new("op", ast.UAdd)
        case ast.Call():
            yield from _call_edits(node, where)
        case ast.IfExp():
            yield f"swapped branches: {where}", _swap_branches


def _statement_edits(node: ast.AST) -> Iterator[tuple[str, Edit]]:
    """Names and edits of the faults that a statement can have."""
    where = f"line {getattr(node, 'lineno', 0)}"
    match node:
        case ast.If():
            yield from _branch_edits(node, where)
        case ast.Return(value=ast.expr()):
            yield f"missing return: {where}", _put("value", None)
        case ast.Expr(value=ast.Call()):
            yield f"missing statement: {where}, {ast.unparse(node):.40}", _drop_statement
        case ast.For() | ast.While() | ast.FunctionDef():
            yield from _early_ends(node, where)


def _comparison_edits(node: ast.Compare, where: str) -> Iterator[tuple[str, Edit]]:
    for position, operator in enumerate(node.ops):
        other = _COMPARISONS[type(operator)]
        yield f"changed comparison: {where}, {_named(operator)} -> {other.__name__}", _compare_by(position, other)


def _call_edits(node: ast.Call, where: str) -> Iterator[tuple[str, Edit]]:
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    if name in _CALLS:
        yield f"swapped call: {where}, {name} -> {_CALLS[name]}", _call_other(_CALLS[name])
    if name == "range" and node.args and not any(isinstance(argument, ast.Starred) for argument in node.args):
        for step in (1, -1):
            yield f"range bound: {where}, stop {step:+d}", _shift_argument(0 if len(node.args) == 1 else 1, step)
        if len(node.args) > 1:
            yield f"range bound: {where}, start +1", _shift_argument(0, 1)
    if name == "sorted" and isinstance(node.func, ast.Name) and node.args:
        yield f"not sorted: {where}", _call_other("list", arguments=1)


def _branch_edits(node: ast.If, where: str) -> Iterator[tuple[str, Edit]]:
    if node.orelse:
        yield f"swapped branches: {where}", _swap_branches
    else:
        yield f"negated condition: {where}", _negate


def _early_ends(node: ast.For | ast.While | ast.FunctionDef, where: str) -> Iterator[tuple[str, Edit]]:
    """A loop ends after its first pass; a function lacks its last statement."""
    if isinstance(node, ast.FunctionDef):
        if len(node.body) > 1:
            yield f"missing end: {where}, last statement of {node.name}", _drop_last
    else:
        yield f"loop ends early: {where}", _break_at_end


def _named(operator: ast.AST) -> str:
    return type(operator).__name__


def _put(attribute: str, value: object) -> Edit:
    return lambda node: setattr(node, attribute, value)


def _put_new(attribute: str, kind: type[ast.AST]) -> Edit:
    return lambda node: setattr(node, attribute, kind())


def _compare_by(position: int, operator: type[ast.cmpop]) -> Edit:
    def edit(node: ast.AST) -> None:
        assert isinstance(node, ast.Compare), "the edit of a comparison gets one"
        node.ops[position] = operator()

    return edit


def _call_other(name: str, arguments: int | None = None) -> Edit:
    """Calls another function, with only the first arguments if a number of them is given."""

    def edit(node: ast.AST) -> None:
        assert isinstance(node, ast.Call), "the edit of a call gets one"
        if isinstance(node.func, ast.Attribute):
            node.func.attr = name
        else:
            node.func = ast.Name(name, ast.Load())
        if arguments is not None:
            node.args, node.keywords = node.args[:arguments], []

    return edit


def _shift_argument(position: int, step: int) -> Edit:
    def edit(node: ast.AST) -> None:
        assert isinstance(node, ast.Call), "the edit of a call gets one"
        operator = ast.Add() if step > 0 else ast.Sub()
        node.args[position] = ast.BinOp(node.args[position], operator, ast.Constant(abs(step)))

    return edit


def _swap_branches(node: ast.AST) -> None:
    assert isinstance(node, ast.If | ast.IfExp), "the edit of branches gets some"
    fields = vars(node)
    fields["body"], fields["orelse"] = fields["orelse"], fields["body"]


def _negate(node: ast.AST) -> None:
    assert isinstance(node, ast.If), "the edit of a condition gets one"
    node.test = ast.UnaryOp(ast.Not(), node.test)


def _drop_statement(node: ast.AST) -> None:
    assert isinstance(node, ast.Expr), "the edit of an expression gets one"
    node.value = ast.Constant(None)


def _drop_last(node: ast.AST) -> None:
    assert isinstance(node, ast.FunctionDef), "the edit of a function gets one"
    node.body.pop()


def _break_at_end(node: ast.AST) -> None:
    assert isinstance(node, ast.For | ast.While), "the edit of a loop gets one"
    node.body.append(ast.Break())


def seeded(source: str, seed: int) -> str:
    """Program whose random numbers are those of a seed, if it imports ``random``; otherwise the program itself."""
    tree = parsed(source)
    if tree is None or not any(_imports_random(node) for node in ast.walk(tree)):
        return source
    first = next((index for index, statement in enumerate(tree.body) if not _must_be_first(statement)), len(tree.body))
    tree.body[first:first] = ast.parse(f"import random as _seeded\n_seeded.seed({seed})").body
    return ast.unparse(tree)


def _imports_random(node: ast.AST) -> bool:
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    return "random" in names or (isinstance(node, ast.ImportFrom) and node.module == "random")


def _must_be_first(statement: ast.stmt) -> bool:
    """Whether it is a docstring or an import from __future__."""
    return (isinstance(statement, ast.ImportFrom) and statement.module == "__future__") or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )
