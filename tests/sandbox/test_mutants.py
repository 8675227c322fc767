"""Mutants compile, differ from the program and from each other, and have the faults that they name."""

from __future__ import annotations

import ast
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.sandbox.mutants import Mutant, MutantKind, edited, named_apart, parsed, seeded

PROGRAM = '''\
"""Docstring."""
from __future__ import annotations

LIMIT = 10

def count(xs: list[int], k: int = 2) -> int:
    total = 0
    for i in range(1, len(xs)):
        if xs[i] > xs[i - 1] and i % k == 0:
            total += xs[i]
        else:
            total -= 1
    xs.sort()
    return -total if total < 0 else max(total, LIMIT)

if __name__ == "__main__":
    print(count([1, 2]))
'''


def result_of(source: str, name: str, *arguments: Any) -> Any:
    names: dict[str, Any] = {"__name__": "solution"}
    exec(compile(source, "mutant", "exec", dont_inherit=True), names)
    return names[name](*arguments)


def the(source: str, beginning: str) -> Mutant:
    """The only mutant whose name begins so."""
    [mutant] = [mutant for mutant in edited(source) if mutant.name.startswith(beginning)]
    return mutant


# Expressions and statements of small programs, each a line of a function.
ATOMS = st.sampled_from(["a", "b", "0", "1", "-3", "2.5", "True", "len(a)", "min(a, b)", "sorted(a)", "range(a, b)"])
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds(
            "({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "//", "%", "<", "==", "in", "and"]), inner
        ),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("(not {})".format, inner),
        st.builds("f({}, k={})".format, inner, inner),
    ),
    max_leaves=8,
)
STATEMENTS = st.one_of(
    st.builds("    a = {}".format, EXPRESSIONS),
    st.builds("    a += {}".format, EXPRESSIONS),
    st.builds("    if {}:\n        return {}\n    else:\n        b = {}".format, EXPRESSIONS, EXPRESSIONS, EXPRESSIONS),
    st.builds("    for b in {}:\n        f({})".format, EXPRESSIONS, EXPRESSIONS),
    st.builds("    while {}:\n        break".format, EXPRESSIONS),
    st.builds("    return {}".format, EXPRESSIONS),
)
PROGRAMS = st.builds(
    "def f(a, b=1, *, k: int = 0):\n{}\n".format, st.lists(STATEMENTS, min_size=1, max_size=5).map("\n".join)
)


@given(PROGRAMS, st.booleans())
def test_mutants_compile_and_differ(source: str, script: bool) -> None:
    mutants = edited(source, script=script)
    original = ast.unparse(ast.parse(source))
    texts, names = [mutant.source for mutant in mutants], [mutant.name for mutant in mutants]
    assert len(set(texts)) == len(texts)
    assert len(set(names)) == len(names)
    assert original not in texts
    for text in texts:
        assert ast.dump(ast.parse(text)) != ast.dump(ast.parse(original))
        compile(text, "mutant", "exec", dont_inherit=True)


@given(PROGRAMS, st.integers(0, 12), st.integers(0, 3))
def test_a_number_of_them_is_drawn_by_the_seed(source: str, count: int, seed: int) -> None:
    every = {mutant.source for mutant in edited(source)}
    drawn = edited(source, count, random.Random(seed))
    assert drawn == edited(source, count, random.Random(seed))
    assert len(drawn) == min(count, len(every))
    assert {mutant.source for mutant in drawn} <= every


def test_each_sort_of_fault_gets_its_turn() -> None:
    sorts = {mutant.name.partition(":")[0] for mutant in edited(PROGRAM)}
    drawn = edited(PROGRAM, len(sorts), random.Random(0))
    assert {mutant.name.partition(":")[0] for mutant in drawn} == sorts


def test_what_no_test_notices_stays() -> None:
    kept = 'if __name__ == "__main__":\n    print(count([1, 2]))'.replace('"', "'")
    assert all(kept in mutant.source for mutant in edited(PROGRAM))
    assert all("k: int=" in mutant.source and "list[int]" in mutant.source for mutant in edited(PROGRAM))
    assert any(kept not in mutant.source for mutant in edited(PROGRAM, script=True))


@pytest.mark.parametrize(
    ("source", "name", "arguments", "result"),
    [
        ("def f(n): return n + 3", "off by one: line 1, 3 -> 4", (1,), 5),
        ("def f(n): return n + 3", "off by one: line 1, 3 -> 2", (1,), 3),
        ("def f(n): return n + 3", "swapped operator: line 1, Add -> Sub", (1,), -2),
        ("def f(n): return n < 3", "changed comparison: line 1, Lt -> LtE", (3,), True),
        ("def f(n): return list(range(n))", "range bound: line 1, stop +1", (2,), [0, 1, 2]),
        ("def f(n): return list(range(1, n))", "range bound: line 1, start +1", (4,), [2, 3]),
        ("def f(n): return 'a' if n else 'b'", "swapped branches: line 1", (True,), "b"),
        ("def f(n):\n if n: return 1\n return 2", "negated condition: line 2", (True,), 2),
        ("def f(n, m): return n and m", "swapped operator: line 1, And -> Or", (1, 2), 1),
        ("def f(n, m): return min(n, m)", "swapped call: line 1, min -> max", (1, 2), 2),
        ("def f(n): return sorted(n)", "not sorted: line 1", ([2, 1],), [2, 1]),
        ("def f(n): return -n", "dropped sign: line 1", (2,), 2),
        ("def f(n): return n", "missing return: line 1", (2,), None),
        ("def f(n):\n n.sort()\n return n", "missing statement: line 2", ([2, 1],), [2, 1]),
        ("def f(n):\n t = 0\n for i in n: t = i\n return t", "loop ends early: line 3", ([7, 8],), 7),
        ("def f(n):\n n = 1\n return n", "missing end: line 1", (2,), None),
        ("def f(): return True", "swapped constant: line 1, True -> False", (), False),
    ],
)
def test_the_fault_by_hand(source: str, name: str, arguments: tuple[Any, ...], result: Any) -> None:
    assert result_of(the(source, name).source, "f", *arguments) == result


def test_a_method_has_mutants() -> None:
    source = "class Solution:\n    def add(self, a, b):\n        return a + b\n"
    names: dict[str, Any] = {}
    exec(the(source, "swapped operator").source, names)
    assert names["Solution"]().add(3, 1) == 2


@pytest.mark.parametrize("source", ["def f(:", "x = (" * 400, "\0"])
def test_a_text_that_is_no_program_has_no_mutants(source: str) -> None:
    assert parsed(source) is None
    assert edited(source) == ()


def test_names_are_told_apart() -> None:
    mutants = [Mutant("a", MutantKind.EDIT, str(n)) for n in range(3)]
    assert [mutant.name for mutant in named_apart(mutants)] == ["a", "a (2)", "a (3)"]


def test_random_numbers_are_seeded() -> None:
    source = '"""Doc."""\nfrom __future__ import annotations\nfrom random import random\ndef f(): return random()\n'
    assert result_of(seeded(source, 1), "f") == result_of(seeded(source, 1), "f") == random.Random(1).random()
    assert result_of(seeded(source, 1), "f") != result_of(seeded(source, 2), "f")
    assert seeded("def f(): return 1", 1) == "def f(): return 1"
    assert seeded("def f(", 1) == "def f("
