"""Tests of a row: which of its columns hold them, in the forms of the known data sets.

``tests`` with ``setup`` and ``entry_point`` are our own form. Known are MBPP (arXiv 2108.07732), HumanEval
(2107.03374), APPS and TACO, LiveCodeBench (2403.07974), CodeContests, Codeforces, the rows of verl and open-instruct.
`cases` reads the values.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import replace

from burnish.rewards.code.cases import Surroundings, json_value, suite_of
from burnish.rewards.code.program import preamble, stub_of
from burnish.rewards.code.syntax import BUILTINS, called, defined, free_names, function_in, parsed
from burnish.rewards.response_view import ResponseView, text_of_content
from burnish.rewards.verdict import UnusableRow
from burnish.sandbox.tests import AssertTest, CallTest, TestSuite

COLUMNS = (
    "tests",
    "test_list",
    "test",
    "input_output",
    "test_cases",
    "official_tests",
    "verification_info",
    "assert_case",
)
"""Columns with tests, the first that a row has counts; then `MERGED`, ``inputs`` with ``outputs``, the reference."""
MERGED = (
    ("public_test_cases", "private_test_cases"),
    ("public_tests", "private_tests", "generated_tests"),
)
"""Columns whose tests are one suite."""
CHALLENGE = "challenge_test_list"
"""Column of MBPP with harder tests."""
_SOLUTION = "Solution"
"""Class of programs for LeetCode."""
_SETUPS = ("setup", "test_setup_code", "test_imports")
_ENTRY_POINTS = ("entry_point", "fn_name", "func_name")


def row_suite(answer: ResponseView, *, challenge: bool = False) -> TestSuite:
    """Tests of a row.

    Args:
        answer: a response to it; its text is not read.
        challenge: whether MBPP's harder tests are further tests.

    Raises:
        UnusableRow: it has no tests, or some that cannot be read.
    """
    around = _surroundings(answer)
    suite = _found(answer, around)
    harder = answer.extra.get(CHALLENGE)
    return _with_builtin(_merged([suite, suite_of(harder, around)]) if challenge and harder else suite)


def _with_builtin(suite: TestSuite) -> TestSuite:
    """Names the function of assert tests where it is called like a builtin, and the tests use nothing else: a row of
    MBPP wants a function ``sum``. Of several builtins a program that defines one would change the tests."""
    if not isinstance(suite.tests[0], AssertTest) or suite.names is not None:
        return suite
    names = used_names(suite)
    return replace(suite, names=tuple(names)) if len(names) == 1 and names <= BUILTINS else suite


def _found(answer: ResponseView, around: Surroundings) -> TestSuite:
    extra = answer.extra
    column = next((name for name in COLUMNS if extra.get(name)), None)
    if column is not None:
        return suite_of(extra[column], around)
    for names in MERGED:
        if held := [extra[name] for name in names if _has_tests(extra.get(name))]:
            return _merged([suite_of(value, around) for value in held])
    inputs, outputs = extra.get("inputs"), extra.get("outputs")
    if inputs and outputs:
        return suite_of({"inputs": _parsed(inputs), "outputs": _parsed(outputs)}, around)
    if answer.reference:
        return suite_of(answer.reference, around)
    raise UnusableRow(f"the row has no tests: none of the columns {', '.join(COLUMNS)}, inputs with outputs, reference")


def _parsed(value: object) -> object:
    """Value of a column, which may be JSON text (as in CSV)."""
    return json_value(value) if isinstance(value, str) and value.lstrip().startswith("[") else value


def _has_tests(value: object) -> bool:
    """Whether a column of tests is there and not empty; CodeContests has objects of empty lists."""
    if isinstance(value, str):
        return value.strip() not in ("", "[]", "{}")
    return any(value.values()) if isinstance(value, Mapping) else bool(value)


def _merged(suites: Sequence[TestSuite]) -> TestSuite:
    tests = tuple(test for suite in suites for test in suite.tests)
    if len({type(test) for test in tests}) > 1:
        raise UnusableRow("its columns have tests of several kinds")
    return replace(suites[0], tests=tests)  # type: ignore[arg-type]  # all are of one kind


def _surroundings(answer: ResponseView) -> Surroundings:
    extra = answer.extra
    parts = [text for name in _SETUPS for text in _texts(extra.get(name))]
    setup = "\n".join(part.replace("\r\n", "\n") for part in parts if part.strip())
    if setup and parsed(setup) is None:
        raise UnusableRow(f"the setup of the tests is no Python: {setup!r:.60}")
    function = next((str(extra[name]) for name in _ENTRY_POINTS if extra.get(name)), None)
    if function is None and isinstance(extra.get("metadata"), str | Mapping):
        function = _in_metadata(extra["metadata"])
    helpers = "" if function is None else preamble(stub_of(last_request(answer), {function}), {function})
    return Surroundings(setup, function, helpers)


def _texts(value: object) -> list[str]:
    if isinstance(value, list | tuple):
        return [str(each) for each in value]
    return [value] if isinstance(value, str) else []


def _in_metadata(metadata: object) -> str | None:
    """Name of the function in LiveCodeBench's metadata, JSON text or an object; None: it is read from standard
    input."""
    value = json_value(metadata) if isinstance(metadata, str) and metadata.lstrip().startswith("{") else metadata
    name = value.get("func_name") if isinstance(value, Mapping) else None
    return name if isinstance(name, str) else None


def last_request(answer: ResponseView) -> str:
    """Text of a plain prompt, or of the last user message."""
    if isinstance(answer.prompt, str):
        return answer.prompt
    contents = [message.get("content") for message in answer.prompt if message.get("role") == "user"]
    texts = [text for text in map(text_of_content, contents) if text is not None]
    return texts[-1] if texts else ""


def used_names(suite: TestSuite) -> frozenset[str]:
    """Names of the program that tests use: of calls the function, also as a method of ``Solution``; of asserts those
    that they call and neither they nor their setup define; of standard input none."""
    first = suite.tests[0]
    if isinstance(first, CallTest):
        names = {test.function for test in suite.tests if isinstance(test, CallTest)}
        return frozenset(each for name in names for each in (name, *_other_forms(name)))
    if not isinstance(first, AssertTest):
        return frozenset()
    if suite.names is not None:
        return frozenset(suite.names)
    sources = [suite.setup, *(test.source for test in suite.tests if isinstance(test, AssertTest))]
    statements = [each for tree in map(parsed, sources) if tree is not None for each in tree.body]
    free = free_names(statements)
    return frozenset(called(statements, free) or free)


def _other_forms(function: str) -> tuple[str, ...]:
    owner, _, method = function.rpartition(".")
    return (method,) if owner else (f"{_SOLUTION}.{function}",)


def for_program(suite: TestSuite, program: str) -> TestSuite:
    """Tests that call the function where the program has it: at its top level, or as a method of ``Solution``."""
    tree = parsed(program)
    if tree is None or not isinstance(suite.tests[0], CallTest):
        return suite
    tests = [test for test in suite.tests if isinstance(test, CallTest)]
    names = defined(tree.body)
    places = {name: _place(tree, names, name) for name in {test.function for test in tests}}
    return replace(suite, tests=tuple(replace(test, function=places[test.function]) for test in tests))


def _place(tree: ast.Module, names: frozenset[str], function: str) -> str:
    """The form of a function's name that a program has; a method may be inherited."""
    forms = (function, *_other_forms(function))
    found = next((form for form in forms if function_in(tree, form) is not None), None)
    inherited = f"{_SOLUTION}.{function}"
    return found or (inherited if _SOLUTION in names and inherited in forms and function not in names else function)


def first_tests(suite: TestSuite, number: int | None) -> TestSuite:
    """At most so many tests, spread evenly over all, the first among them; None: all."""
    total = len(suite.tests)
    if number is None or number >= total:
        return suite
    chosen = tuple(suite.tests[index * total // number] for index in range(number))
    return replace(suite, tests=chosen)  # type: ignore[arg-type]  # all are of one kind
