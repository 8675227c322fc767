"""Tests of rows, in the forms of the data sets that are known."""

from __future__ import annotations

import base64
import contextlib
import json
import pickle
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.data.formats.recognize import recognize
from burnish.data.read import read_rows
from burnish.data.records import Task
from burnish.rewards.code.program import program_of
from burnish.rewards.code.reward import fenced, gold_program
from burnish.rewards.code.suites import first_tests, for_program, row_suite, used_names
from burnish.rewards.code.syntax import defined, parsed
from burnish.rewards.response_view import ResponseView
from burnish.rewards.response_views import response_view
from burnish.rewards.verdict import UnusableRow
from burnish.sandbox.tests import AssertTest, CallTest, StdinTest, TestSuite

ADD, MORE = "assert add(1, 2) == 3", "assert add(0, 0) == 0"
ASSERTS = TestSuite((AssertTest(ADD), AssertTest(MORE)))
STDIN = TestSuite((StdinTest("1\n", "2\n"), StdinTest("2\n", "4\n")))
CALLS = TestSuite((CallTest("add", (1, 2), {}, 3), CallTest("add", (0, 0), {}, 0)))
CASES = [{"input": "1\n", "output": "2\n"}, {"input": "2\n", "output": "4\n"}]
LIVE = [
    {"input": "1\n2", "output": "3", "testtype": "functional"},
    {"input": "0\n0", "output": "0", "testtype": "functional"},
]
PACKED = base64.b64encode(zlib.compress(pickle.dumps(json.dumps(LIVE[1:])))).decode()


def view(reference: object = None, **extra: object) -> ResponseView:
    return ResponseView("Well?", "", reference, extra)


ROWS: dict[str, tuple[ResponseView, TestSuite]] = {
    # Our own form.
    "asserts": (view(tests=[ADD, MORE]), ASSERTS),
    "asserts with a setup": (view(tests=[ADD], setup="import math"), TestSuite((AssertTest(ADD),), "import math")),
    "input and output": (view(tests=CASES), STDIN),
    "calls": (
        view(tests=[{"call": "add", "args": [1, 2], "expected": 3}, {"call": "add", "args": [0, 0], "expected": 0}]),
        CALLS,
    ),
    "keywords": (
        view(tests=[{"kwargs": {"a": 1}, "expected": None}], entry_point="f"),
        TestSuite((CallTest("f", (), {"a": 1}, None),)),
    ),
    "JSON text": (view(tests=json.dumps(CASES)), STDIN),
    "calls by input": (
        view(tests=[{"input": [1, 2], "output": 3}, {"input": [0, 0], "output": 0}], fn_name="add"),
        CALLS,
    ),
    # MBPP; a list of one is a text, see `data.formats.tasks`.
    "MBPP": (view([ADD, MORE], test_setup_code="", challenge_test_list=["assert add(9, 9) == 18"]), ASSERTS),
    "MBPP, a single test": (view(ADD, test_setup_code="x = 1"), TestSuite((AssertTest(ADD),), "x = 1")),
    "MBPP sanitized": (
        view([ADD, MORE], test_imports=["import math", "import re"]),
        TestSuite(ASSERTS.tests, "import math\nimport re"),
    ),
    "MBPP, another reference": (view("def add(a, b): ...", test_list=[ADD, MORE]), ASSERTS),
    # open-instruct
    "asserts as the reference": (view(json.dumps([ADD, MORE])), ASSERTS),
    "cases as the reference": (view(json.dumps(CASES)), STDIN),
    # APPS, TACO
    "APPS": (view(input_output=json.dumps({"inputs": ["1\n", "2\n"], "outputs": ["2\n", "4\n"]})), STDIN),
    "APPS, lists of lines": (
        view(input_output={"inputs": [["1", "2"]], "outputs": [["3"]]}),
        TestSuite((StdinTest("1\n2", "3"),)),
    ),
    "APPS, calls": (
        view(input_output=json.dumps({"fn_name": "add", "inputs": [[1, 2], [0, 0]], "outputs": [[3], [0]]})),
        CALLS,
    ),
    "TACO, calls with bare values": (
        view(input_output=json.dumps({"fn_name": "add", "inputs": [[1, 2], [0, 0]], "outputs": [3, 0]})),
        CALLS,
    ),
    "inputs and outputs": (view(inputs=["1\n", "2\n"], outputs=["2\n", "4\n"]), STDIN),
    # verl
    "verl": (view(json.dumps({"inputs": ["1\n", "2\n"], "outputs": ["2\n", "4\n"]}), data_source="x"), STDIN),
    "verl, calls": (view(json.dumps({"fn_name": "add", "inputs": ["1\n2", "0\n0"], "outputs": ["3", "0"]})), CALLS),
    "verl, asserts": (view(json.dumps({"assert_case": [ADD, MORE]})), ASSERTS),
    # LiveCodeBench
    "LiveCodeBench": (
        view(public_test_cases=json.dumps([{**case, "testtype": "stdin"} for case in CASES]), metadata="{}"),
        STDIN,
    ),
    "LiveCodeBench, calls": (
        view(public_test_cases=json.dumps(LIVE[:1]), private_test_cases=PACKED, metadata='{"func_name": "add"}'),
        CALLS,
    ),
    # CodeContests, Codeforces
    "CodeContests": (
        view(
            public_tests={"input": ["1\n"], "output": ["2\n"]},
            private_tests={"input": [], "output": []},
            generated_tests={"input": ["2\n"], "output": ["4\n"]},
        ),
        STDIN,
    ),
    "Codeforces": (view(official_tests=CASES), STDIN),
    "typed cases": (
        view(verification_info=json.dumps({"test_cases": [{"type": "stdin_stdout", **case} for case in CASES]})),
        STDIN,
    ),
    # Source text
    "asserts in one text": (view(f"import math\n{ADD}\n{MORE}\n"), TestSuite(ASSERTS.tests, "import math")),
    "asserts after other statements": (
        view("x = add(1, 2)\nassert x == 3\nx = add(3, 4)\nassert x == 7"),
        TestSuite((AssertTest("x = add(1, 2)\nassert x == 3\nx = add(3, 4)\nassert x == 7"),)),
    ),
    "asserts in a loop": (
        view("for a in (1, 2):\n    assert add(a, a) == 2 * a"),
        TestSuite((AssertTest("for a in (1, 2):\n    assert add(a, a) == 2 * a"),)),
    ),
    "test functions": (
        view(test=f"from solution import add\n\ndef test_one():\n    {ADD}\n\ndef test_two():\n    {MORE}"),
        TestSuite(
            (AssertTest("test_one()"), AssertTest("test_two()")),
            f"\n\ndef test_one():\n    {ADD}\n\ndef test_two():\n    {MORE}",
            ("add",),
        ),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_tests_of_a_row(name: str) -> None:
    row, suite = ROWS[name]
    assert row_suite(row) == suite


def test_challenge_tests_are_further_ones() -> None:
    row, _ = ROWS["MBPP"]
    assert row_suite(row, challenge=True).tests == (*ASSERTS.tests, AssertTest("assert add(9, 9) == 18"))
    assert row_suite(view([ADD, MORE], challenge_test_list=[]), challenge=True) == ASSERTS


UNUSABLE: dict[str, tuple[ResponseView, str]] = {
    "nothing": (view(), "no tests"),
    "an empty list": (view(tests=[]), "no tests"),
    "a number": (view(tests=3), "neither asserts"),
    "prose": (view("The sum is 3."), "neither JSON nor Python"),
    "a value": (view("3"), "without asserts"),
    "broken JSON": (view(tests="[1,"), "not JSON"),
    "an assert that is no Python": (view(tests=[ADD, "assert ("]), "no Python"),
    "a comparison that asserts nothing": (view(tests=[ADD, "add(1, 2) == 3"]), "needs assert"),
    "an empty assert": (view(tests=[ADD, " "]), "no Python"),
    "a setup that is no Python": (view(tests=[ADD], setup="import ("), "setup"),
    "fewer outputs": (view(inputs=["1"], outputs=["1", "2"]), "1 inputs and 2 outputs"),
    "no output": (view(tests=[{"input": "1"}]), "output"),
    "a call of nothing": (view(tests=[{"args": [1], "expected": 2}]), "name"),
    "calls and input": (view(tests=[*CASES, {"call": "f", "expected": 1}]), "one kind"),
    "args that are no list": (view(tests=[{"call": "f", "args": 1, "expected": 2}]), "args"),
    "check without a name": (view(test="def check(candidate):\n    assert candidate(1) == 1"), "entry_point"),
    "an unknown object": (view(tests={"cases": 1}), "no known key"),
    "a pickle of something else": (
        view(tests=base64.b64encode(zlib.compress(pickle.dumps(print))).decode()),
        "not loaded",
    ),
    "a cut text": (view(tests=base64.b64encode(zlib.compress(b"[" * 9999)[:-4]).decode()), "cut off"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_rows_without_usable_tests_say_so(name: str) -> None:
    row, words = UNUSABLE[name]
    with pytest.raises(UnusableRow, match=words):
        row_suite(row)


PROMPT = 'from math import floor\n\ndef half(x):\n    return x / 2\n\ndef whole(x):\n    """Rounds."""\n'


def checked(body: str, rest: str = "") -> TestSuite:
    source = f"METADATA = {{}}\n\ndef check(candidate):\n{body}\n{rest}"
    return row_suite(ResponseView(PROMPT, "", None, {"test": source, "entry_point": "whole"}))


def run(suite: TestSuite, function: object) -> list[bool]:
    """Whether each test passes for a function, without a sandbox."""
    results = []
    for test in suite.tests:
        assert isinstance(test, AssertTest)
        names: dict[str, object] = {}
        exec(suite.setup, names)
        names["whole"] = function
        try:
            exec(test.source, names)
            results.append(True)
        except AssertionError:
            results.append(False)
    return results


def test_each_assert_of_check_is_a_test() -> None:
    suite = checked(
        "    limit = 9\n    assert candidate(1.5) == 1\n    assert True\n    assert candidate(half(3)) == 1, 'half'\n"
        "    for x in range(limit):\n        assert candidate(x) == x\n    assert candidate(limit + 0.5) == limit"
    )
    assert (len(suite.tests), suite.names) == (4, ("whole",))
    assert "def whole" not in suite.setup
    assert run(suite, int) == [True] * 4
    assert run(suite, lambda x: 1) == [True, True, False, False]


def test_the_call_of_check_is_left_to_the_tests() -> None:
    body = "    assert candidate(1.5) == 1\n    assert candidate(2.5) == 2"
    rest = "\ndef test_check():\n    check(whole)\n\ntest_check()\n"
    suite = checked(body, rest)
    assert run(suite, int) == [True, True]
    assert run(checked(f"    x = [1]\n{body}\n    assert x == [1]\n    assert x", rest), int) == [True]


TOGETHER = {
    "a variable that a test may change": "    x = [1.5]\n    assert candidate(x[0]) == 1\n    assert x == [1.5]",
    "a call between them": "    assert candidate(1) == 1\n    candidate(2)\n    assert candidate(3) == 3",
    "a variable that is assigned twice": "    x = 1\n    assert candidate(x)\n    x = 2\n    assert candidate(x) == 2",
    "one assert": "    assert candidate(1) == 1",
    "a loop that assigns": "    n = 0\n    for n in [1]:\n        assert candidate(n)\n    assert candidate(n) == 1",
    "no assert": "    for x in (1, 2):\n        same(candidate(x), x)",
}


@pytest.mark.parametrize("name", TOGETHER)
def test_asserts_that_depend_on_each_other_stay_one_test(name: str) -> None:
    suite = checked(TOGETHER[name])
    assert suite.tests == (AssertTest("check(whole)"),)
    assert "def check" in suite.setup


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=6), st.integers(-3, 3))
def test_all_tests_of_check_pass_where_check_passes(pairs: list[tuple[int, int]], shift: int) -> None:
    suite = checked("\n".join(f"    assert candidate({given}) == {expected}" for given, expected in pairs))
    assert all(run(suite, lambda x: x + shift)) == all(given + shift == expected for given, expected in pairs)


def test_names_that_tests_use() -> None:
    assert used_names(ASSERTS) == {"add"}
    assert used_names(TestSuite((AssertTest("assert math.isclose(f([x for x in y]), 1)"),), "import math")) == {"f"}
    assert used_names(TestSuite((AssertTest("assert sum(1, 2) == 3"),))) == {"sum"}
    assert used_names(CALLS) == {"add", "Solution.add"}
    assert used_names(STDIN) == frozenset()


@pytest.mark.parametrize("named", ["add", "Solution.add"])
def test_a_call_goes_where_the_program_has_the_function(named: str) -> None:
    suite = TestSuite((CallTest(named, (1, 2), {}, 3),))
    for program, place in {
        "def add(a, b): ...": "add",
        "class Solution:\n    def add(self, a, b): ...": "Solution.add",
        "class Base:\n    def add(self, a, b): ...\nclass Solution(Base): ...": "Solution.add",
        "x = 1": named,
        "def (": named,
    }.items():
        assert for_program(suite, program) == TestSuite((CallTest(place, (1, 2), {}, 3),))


@given(st.integers(1, 40), st.integers(1, 50))
def test_some_tests_are_spread_over_all(total: int, number: int) -> None:
    suite = TestSuite(tuple(StdinTest(str(index), "") for index in range(total)))
    chosen = first_tests(suite, number)
    positions = [int(test.stdin) for test in chosen.tests if isinstance(test, StdinTest)]
    assert len(positions) == min(total, number)
    assert positions == sorted(set(positions))
    assert positions[0] == 0
    assert first_tests(suite, None) == suite


CALL_ROWS = st.builds(
    CallTest,
    st.just("f"),
    st.lists(st.integers() | st.text(max_size=5) | st.none() | st.lists(st.booleans(), max_size=2), max_size=3).map(
        tuple
    ),
    st.dictionaries(st.sampled_from("ab"), st.integers(), max_size=2),
    st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=3),
)


@given(st.lists(CALL_ROWS, min_size=1, max_size=5), st.booleans())
def test_calls_come_back_from_their_canonical_form(calls: list[CallTest], is_text: bool) -> None:
    rows = [{"call": "f", "args": list(c.arguments), "kwargs": c.keywords, "expected": c.expected} for c in calls]
    assert row_suite(view(tests=json.dumps(rows) if is_text else rows)) == TestSuite(tuple(calls))


@given(st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), min_size=1, max_size=5))
def test_input_and_output_come_back_from_their_forms(pairs: list[tuple[str, str]]) -> None:
    suite = TestSuite(tuple(StdinTest(*pair) for pair in pairs))
    inputs, outputs = [one for one, _ in pairs], [other for _, other in pairs]
    assert row_suite(view(tests=[{"input": one, "output": other} for one, other in pairs])) == suite
    assert row_suite(view(input_output=json.dumps({"inputs": inputs, "outputs": outputs}))) == suite


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["input", "output", "inputs", "outputs", "expected", "args", "call", "tests", "fn_name"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(VALUES, VALUES, st.sampled_from(["tests", "test", "input_output", "public_test_cases", "inputs", "metadata"]))
def test_any_value_is_a_suite_or_an_unusable_row(reference: object, value: object, column: str) -> None:
    with contextlib.suppress(UnusableRow):
        assert row_suite(view(reference, **{column: value})).tests


def test_every_row_of_mbpp_has_tests_that_its_program_defines(shared_folder: Path) -> None:
    rows = read_rows(str(shared_folder / "data" / "mbpp" / "mbpp.jsonl"))
    form = recognize(rows.columns, stage="rl")
    for index in range(len(rows)):
        task = form.convert(rows[index])
        assert isinstance(task, Task)
        suite = row_suite(row := response_view(task, ""))
        names = used_names(suite)
        gold = gold_program(row.extra)
        assert gold is not None
        program = program_of(fenced(gold), "named_block", names)
        assert program is not None
        tree = parsed(program)
        assert tree is not None
        assert names <= defined(tree.body)
        assert not any(text in row.asked for text in _sources(suite))


def _sources(suite: TestSuite) -> list[str]:
    return [test.source for test in suite.tests if isinstance(test, AssertTest)]


GOLD: list[tuple[Mapping[str, object], str | None]] = [
    ({"code": "x = 1\r\n"}, "x = 1\r\n"),
    ({"canonical_solution": "    return 1"}, "    return 1"),
    ({"solutions": json.dumps(["x = 1", "x = 2"])}, "x = 1"),
    ({"solutions": ["", "x = 2"]}, "x = 2"),
    ({"solutions": {"language": [2, 3], "solution": ["int x;", "x = 1"]}}, "x = 1"),
    ({"solution": "[x for x in input()]"}, "[x for x in input()]"),
    ({"solutions": "[]"}, None),
    ({}, None),
]


@pytest.mark.parametrize(("extra", "program"), GOLD)
def test_the_right_program_of_a_row(extra: Mapping[str, object], program: str | None) -> None:
    assert gold_program(extra) == program
