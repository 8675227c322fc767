"""Test cases of a row as a suite: lists of asserts, of inputs and outputs, of calls; JSON texts of these. Pure.

`suites` finds the columns; here a value of a column, of any of the known forms, becomes tests.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.rewards.code.check_function import CHECK, check_tests
from burnish.rewards.code.packed_cases import unpacked
from burnish.rewards.code.syntax import defined, parsed, used
from burnish.rewards.verdict import UnusableRow
from burnish.sandbox.tests import AssertTest, CallTest, StdinTest, TestSuite

_FUNCTIONS = ("fn_name", "func_name", "function_name", "entry_point", "call")
"""Keys with the name of the tested function."""
_WRAPPERS = ("tests", "test_cases", "assert_case", "test_list", "public_test_cases")
"""Keys of an object that hold its test cases."""
_STDIN_KINDS = ("stdin", "stdin_stdout", "standard_input")
_CALL_KINDS = ("functional", "function_call", "call")
_DEFINITIONS = (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the other columns of a row say about its tests."""

    setup: str = ""
    """Statements before assert tests."""
    function: str | None = None
    """Name of the tested function; None: the tests say it, or read standard input."""
    helpers: str = ""
    """Statements of the prompt beside the tested function, which a check function may use."""


def suite_of(value: object, around: Surroundings) -> TestSuite:
    """Tests of one value.

    Raises:
        UnusableRow: it has none of the known forms, no test, or tests of several kinds.
    """
    match value:
        case str():
            return _suite_of_text(value, around)
        case list() | tuple() if value and all(isinstance(each, str) for each in value):
            return _suite_of_asserts([str(each) for each in value], around)
        case list() | tuple() if value and all(isinstance(each, Mapping) for each in value):
            return _suite_of_cases(value, around)
        case Mapping():
            return _suite_of_object(value, around)
    raise UnusableRow(f"the tests are {value!r:.60}: neither asserts, nor cases with input and output, nor calls")


def _suite_of_text(text: str, around: Surroundings) -> TestSuite:
    if text.lstrip()[:1] in ("[", "{"):
        return suite_of(json_value(text), around)
    try:
        packed = unpacked(text.strip())
    except ValueError as error:
        raise UnusableRow(str(error)) from error
    return _suite_of_source(text, around) if packed is None else suite_of(json_value(packed), around)


def json_value(text: str) -> object:
    """Value of a JSON text.

    Raises:
        UnusableRow: it is not JSON.
    """
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnusableRow(f"the tests are text that is not JSON: {error}") from error
    return value


def _suite_of_source(source: str, around: Surroundings) -> TestSuite:
    """Tests in source text: a function ``check(candidate)``, functions ``test_…()``, or asserts."""
    source = source.replace("\r\n", "\n")
    tree = parsed(source)
    if tree is None:
        raise UnusableRow(f"the tests are neither JSON nor Python: {source!r:.60}")
    functions = [each for each in tree.body if isinstance(each, ast.FunctionDef)]
    check = next((each for each in reversed(functions) if each.name == CHECK), None)
    if check is not None:
        return _suite_of_check(source, tree, check, around)
    cases = [each for each in functions if each.name.startswith("test") and not each.args.args]
    if cases:
        return _suite_of_functions(source, tree, cases, around)
    return _suite_of_statements(source, tree, around)


def _suite_of_statements(source: str, tree: ast.Module, around: Surroundings) -> TestSuite:
    """Tests of asserts in source text, one each; all are one test if other statements stand between them, or have
    asserts inside (a loop): they may depend on what was before."""
    if not any(isinstance(each, ast.Assert) for each in ast.walk(tree)):
        raise UnusableRow(f"the tests are Python without asserts, check(candidate) or test functions: {source!r:.60}")
    first = next((index for index, each in enumerate(tree.body) if isinstance(each, ast.Assert)), 0)
    before, after = tree.body[:first], tree.body[first:]
    if not all(isinstance(each, (ast.Assert, *_DEFINITIONS)) for each in after) or _has_asserts(before):
        return TestSuite((AssertTest(source),), around.setup)
    others = "\n".join(ast.unparse(each) for each in tree.body if not isinstance(each, ast.Assert))
    asserts = tuple(AssertTest(ast.unparse(each)) for each in after if isinstance(each, ast.Assert))
    return TestSuite(asserts, _text(around.setup, others))


def _has_asserts(statements: Sequence[ast.stmt]) -> bool:
    """Whether statements, without definitions, have asserts inside."""
    outside = (each for each in statements if not isinstance(each, _DEFINITIONS))
    return any(isinstance(inner, ast.Assert) for each in outside for inner in ast.walk(each))


def _suite_of_check(source: str, tree: ast.Module, check: ast.FunctionDef, around: Surroundings) -> TestSuite:
    if around.function is None:
        raise UnusableRow("the tests are a function check(candidate), and the row has no entry_point")
    kept, tests = check_tests(*_without_calls(source, tree, check), around.function)
    return TestSuite(tests, _text(around.setup, around.helpers, kept), (around.function,))


def _without_calls(source: str, tree: ast.Module, check: ast.FunctionDef) -> tuple[str, ast.FunctionDef]:
    """Source without the statements that call the check function, which its tests do."""
    dropped, lines = {CHECK}, source.split("\n")
    for statement in tree.body[tree.body.index(check) + 1 :]:
        if set(used(statement)) & dropped:
            dropped |= defined([statement])
            start, end = statement.lineno - 1, statement.end_lineno or statement.lineno
            lines[start:end] = [""] * (end - start)
    return "\n".join(lines), check


def _suite_of_functions(
    source: str, tree: ast.Module, cases: Sequence[ast.FunctionDef], around: Surroundings
) -> TestSuite:
    """Tests of functions ``test_…()`` (pytest's form); the module that they import the program from is left out."""
    lines, names = source.split("\n"), []
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom) and statement.module == "solution":
            names += [alias.asname or alias.name for alias in statement.names]
            lines[statement.lineno - 1 : statement.end_lineno] = [""] * (
                (statement.end_lineno or statement.lineno) - statement.lineno + 1
            )
    tests = tuple(AssertTest(f"{case.name}()") for case in cases)
    return TestSuite(tests, _text(around.setup, "\n".join(lines)), tuple(names) or None)


def _suite_of_asserts(texts: Sequence[str], around: Surroundings) -> TestSuite:
    """Tests of asserts, one a text; a list of JSON texts is one of cases."""
    if all(text.lstrip().startswith("{") for text in texts):
        return suite_of([json_value(text) for text in texts], around)
    if len(texts) == 1 and texts[0].lstrip()[:1] == "[":
        return suite_of(texts[0], around)
    sources = [text.replace("\r\n", "\n").strip() for text in texts]
    if len(sources) == 1 and (tree := parsed(sources[0])) is not None and defined(tree.body) & {CHECK}:
        return _suite_of_source(sources[0], around)
    wrong = next((source for source in sources if not source or parsed(source) is None), None)
    if wrong is not None:
        raise UnusableRow(f"a test is {wrong!r:.60}, which is no Python statement")
    idle = next((source for source in sources if _tests_nothing(source)), None)
    if idle is not None:
        raise UnusableRow(f"a test is {idle!r:.60}, a value that any program passes: it needs assert before it")
    return TestSuite(tuple(AssertTest(source) for source in sources), around.setup)


def _tests_nothing(source: str) -> bool:
    """Whether the source of a test is a comparison or another value but for calls, which may raise."""
    tree = parsed(source)
    return tree is not None and all(
        isinstance(each, ast.Expr) and not isinstance(each.value, ast.Call) for each in tree.body
    )


def _suite_of_object(value: Mapping[Any, Any], around: Surroundings) -> TestSuite:
    """Tests of an object: lists of inputs and of outputs, or test cases below a key."""
    name = next((value[key] for key in _FUNCTIONS if isinstance(value.get(key), str)), None)
    inner = Surroundings(around.setup, name or around.function, around.helpers)
    columns = (("inputs", "outputs"), ("input", "output"))
    for one, other in columns:
        if isinstance(value.get(one), list) and isinstance(value.get(other), list):
            return lists_suite(value[one], value[other], inner.function)
    held = next((value[key] for key in _WRAPPERS if value.get(key)), None)
    if held is not None:
        return suite_of(held, inner)
    if "expected" in value or "output" in value:
        return suite_of([value], inner)
    raise UnusableRow(f"the tests are an object with {', '.join(map(str, value)) or 'nothing'}, and no known key")


def lists_suite(inputs: Sequence[object], outputs: Sequence[object], function: str | None) -> TestSuite:
    """Tests of a list of inputs and one of outputs: of calls where the row names a function, else of standard input.

    Of calls, an input is the list of arguments, or their JSON texts, one a line. Where every output is a list of one
    value, that value is expected (APPS, arXiv 2105.09938).

    Raises:
        UnusableRow: they are empty, or not equally many.
    """
    if len(inputs) != len(outputs) or not inputs:
        raise UnusableRow(f"the row has {len(inputs)} inputs and {len(outputs)} outputs of tests")
    if function is None:
        pairs = zip(inputs, outputs, strict=True)
        return TestSuite(tuple(StdinTest(_lines(given), _lines(expected)) for given, expected in pairs))
    results = [json_value(output) if isinstance(output, str) else output for output in outputs]
    if all(isinstance(result, list) and len(result) == 1 for result in results):
        results = [result[0] for result in results if isinstance(result, list)]
    arguments = [_arguments(given) for given in inputs]
    return TestSuite(
        tuple(CallTest(function, given, {}, result) for given, result in zip(arguments, results, strict=True))
    )


def _suite_of_cases(cases: Sequence[Mapping[str, Any]], around: Surroundings) -> TestSuite:
    tests = [_test(case, around) for case in cases]
    calls = tuple(test for test in tests if isinstance(test, CallTest))
    stdin = tuple(test for test in tests if isinstance(test, StdinTest))
    if calls and stdin:
        raise UnusableRow(f"{len(calls)} tests are calls and {len(stdin)} have standard input: one kind is needed")
    return TestSuite(calls or stdin)


def _test(case: Mapping[str, Any], around: Surroundings) -> CallTest | StdinTest:
    """Test of an object: a call, or standard input and output."""
    metadata = case.get("metadata")
    inside = metadata if isinstance(metadata, Mapping) else {}
    named = next((each[key] for each in (case, inside) for key in _FUNCTIONS if isinstance(each.get(key), str)), None)
    kind = case.get("type", case.get("testtype"))
    if "expected" in case:
        return _call(case, named or around.function)
    if not {"input", "output"} <= set(case):
        raise UnusableRow(f"a test has the keys {', '.join(map(str, case))}: input and output, or expected, are needed")
    function = named or around.function
    if kind in _STDIN_KINDS or (kind not in _CALL_KINDS and function is None):
        return StdinTest(_lines(case["input"]), _lines(case["output"]))
    if function is None:
        raise UnusableRow("a test calls a function, and the row does not name it")
    output = case["output"]
    return CallTest(function, _arguments(case["input"]), {}, json_value(output) if isinstance(output, str) else output)


def _call(case: Mapping[str, Any], function: str | None) -> CallTest:
    arguments, keywords = case.get("args", []), case.get("kwargs") or {}
    if function is None:
        raise UnusableRow("a test has an expected value, and neither it nor the row names the function: call")
    if not isinstance(arguments, list | tuple) or not isinstance(keywords, Mapping):
        raise UnusableRow("a test has args that are not a list, or kwargs that are not an object")
    return CallTest(function, tuple(arguments), dict(keywords), case["expected"])


def _arguments(given: object) -> tuple[Any, ...]:
    """Arguments of a call: a list, or a JSON text for each, one a line."""
    if isinstance(given, str):
        return tuple(json_value(line) for line in given.split("\n") if line.strip())
    return tuple(given) if isinstance(given, list | tuple) else (given,)


def _lines(given: object) -> str:
    """Text of standard input or output: text, a list of lines, or a number."""
    if isinstance(given, list | tuple):
        return "\n".join(_lines(each) for each in given)
    if given is None or isinstance(given, Mapping):
        raise UnusableRow(f"the input or output of a test is {given!r:.40}, and text is needed")
    return given if isinstance(given, str) else str(given)


def _text(*parts: str) -> str:
    return "\n".join(part for part in parts if part.strip())
