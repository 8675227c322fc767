"""Imports that programs for LeetCode leave out, since its editor has them: ``List``, ``defaultdict``, ``heapq``.

LiveCodeBench (arXiv 2403.07974) and the functions of APPS come from there; their solutions rely on these imports too.
"""

from __future__ import annotations

import bisect
import collections
import functools
import heapq
import itertools
import math
import typing
from collections.abc import Sequence
from types import ModuleType

from burnish.rewards.code.syntax import parsed, unbound
from burnish.sandbox.tests import CallTest, TestSuite

_MODULES: tuple[tuple[ModuleType, Sequence[str]], ...] = (
    (math, dir(math)),
    (bisect, ("bisect", "bisect_left", "bisect_right", "insort", "insort_left", "insort_right")),
    (heapq, heapq.__all__),
    (itertools, dir(itertools)),
    (functools, functools.__all__),
    (typing, typing.__all__),
    (collections, collections.__all__),
)
"""Modules whose names may be used without an import; the last that has a name counts."""
_SOURCES = {name: module.__name__ for module, names in _MODULES for name in names if not name.startswith("_")}
_NAMED = frozenset({*(module.__name__ for module, _ in _MODULES), "operator", "random", "re", "string"})


def with_usual_imports(program: str, suite: TestSuite) -> str:
    """The program, after imports of usual names that it reads and does not define, if the tests call a function.

    Example: ``def f(a: List[int]): …`` gets ``from typing import List`` before it.
    """
    tree = parsed(program)
    if tree is None or not isinstance(suite.tests[0], CallTest):
        return program
    imports = [line for name in unbound(tree) if (line := _import_of(name))]
    # Nothing may stand before an import from __future__, which is at the beginning then.
    return program if not imports or "__future__" in program else "\n".join([*imports, program])


def _import_of(name: str) -> str | None:
    if name in _NAMED:
        return f"import {name}"
    return f"from {_SOURCES[name]} import {name}" if name in _SOURCES else None
