"""Names, calls and expected values that are read from tests."""

from __future__ import annotations

import pytest

from burnish.grading.code_audit.calls import expected_values, hints, known_calls, names_used_by
from burnish.sandbox.tests import AssertTest, CallTest, StdinTest, TestSuite
from burnish.sandbox.wrong_programs import TestedNames

CLASS = "class Stack:\n    def push(self, x): pass\n\ndef helper(): pass\n"


def asserts(*sources: str, setup: str = "", names: tuple[str, ...] | None = None) -> TestSuite:
    return TestSuite(tuple(AssertTest(source) for source in sources), setup, names)


@pytest.mark.parametrize(
    ("suite", "gold", "names"),
    [
        (asserts("assert add(1, 2) == 3"), None, TestedNames(("add",))),
        (asserts("import math\nassert math.isclose(area(2), 4)"), None, TestedNames(("area",))),
        (asserts("assert near(area(2), 4)", setup="def near(a, b): return a == b"), None, TestedNames(("area",))),
        (asserts("assert Stack().push(1) == helper()"), CLASS, TestedNames(("helper",), ("Stack",))),
        (asserts("assert Stack().push(1) is None"), None, TestedNames((), ("Stack",))),
        (asserts("check(add)", names=("add",)), None, TestedNames(())),
        (TestSuite((CallTest("Solution.f", (1,)), CallTest("g"))), None, TestedNames(("Solution.f", "g"))),
        (TestSuite((StdinTest("1", "2"),)), None, TestedNames(())),
    ],
)
def test_names(suite: TestSuite, gold: str | None, names: TestedNames) -> None:
    assert names_used_by(suite, gold) == names


def test_calls_of_asserts() -> None:
    suite = asserts(
        "assert add(1, 2) == 3",
        "assert [4] == add([4], b=[])",
        "assert add(1, 2) == 3",
        "assert add(x, 1)",
        "self.assertEqual(add('a', 'b'), 'ab')",
        "assert Stack().push(2) is None",
        "assert not add(0, 0)",
    )
    calls = known_calls(suite, TestedNames(("add",), ("Stack",)))
    assert [(call.test, call.expects) for call in calls] == [
        (CallTest("add", (1, 2), {}, 3), True),
        (CallTest("add", ([4],), {"b": []}, [4]), True),
        (CallTest("add", ("a", "b"), {}, "ab"), True),
        (CallTest("Stack.push", (2,), {}, None), True),
        (CallTest("add", (0, 0)), False),
    ]
    assert expected_values(calls) == [3, [4], "ab", None]


def test_hints() -> None:
    assert hints(asserts("assert f(1) == 2")) == []
    assert hints(asserts("import sys\nsys.exit(f(1))")) == ["exit"]
    assert hints(asserts("assert f()", setup="import random\nx = random.random()")) == ["random"]
    assert hints(asserts("assert f()", setup="import random\nrandom.seed(1)\nx = random.random()")) == []
    assert hints(asserts("assert f(open('a'))", "import requests")) == ["network", "files"]
    assert hints(TestSuite((StdinTest("time.time()", ""),))) == []
