"""Imports that programs for LeetCode leave out."""

from __future__ import annotations

import pytest

from burnish.rewards.code.usual_imports import with_usual_imports
from burnish.sandbox.tests import AssertTest, CallTest, StdinTest, TestSuite

CALLS = TestSuite((CallTest("f", (1,), {}, 1),))


@pytest.mark.parametrize(
    ("program", "imports"),
    [
        ("def f(a: List[int]) -> Optional[int]: ...", "from typing import List\nfrom typing import Optional\n"),
        ("def f(a):\n    return heapq.nsmallest(1, a)", "import heapq\n"),
        ("def f(a):\n    return defaultdict(int)", "from collections import defaultdict\n"),
        ("def f(a):\n    return gcd(a, inf)", "from math import gcd\nfrom math import inf\n"),
        ("@cache\ndef f(a):\n    return a", "from functools import cache\n"),
    ],
)
def test_names_that_are_missing_are_imported(program: str, imports: str) -> None:
    assert with_usual_imports(program, CALLS) == imports + program


@pytest.mark.parametrize(
    "program",
    [
        "def f(a):\n    return sum(a)",
        "from typing import List\ndef f(a: List[int]): ...",
        "import typing as List\ndef f(a: List): ...",
        "from typing import *\ndef f(a: List[int]): ...",
        "from __future__ import annotations\ndef f(a: List[int]): ...",
        "def gcd(a, b): ...\ndef f(a):\n    return gcd(a, a)",
        "def f(cache):\n    return cache",
        "def f(a):\n    for cache in a:\n        return cache",
        "def f(a):\n    return unknown(a)",
        "def f(",
    ],
)
def test_a_program_that_has_its_names_stays_as_it_is(program: str) -> None:
    assert with_usual_imports(program, CALLS) == program


@pytest.mark.parametrize("suite", [TestSuite((AssertTest("assert f(1)"),)), TestSuite((StdinTest("", ""),))])
def test_only_functions_that_are_called_get_imports(suite: TestSuite) -> None:
    assert with_usual_imports("def f(a: List[int]): ...", suite) == "def f(a: List[int]): ..."
