"""Probes: tests made from the solution's results on inputs near those of the tests. They tell mutants from it.

A mutant that gives the same results is perhaps equivalent to the solution; whether it is cannot be decided in general.
The solution is run in the sandbox, as all programs are.
"""

from __future__ import annotations

import ast
import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from burnish.grading.code_audit.calls import KnownCall
from burnish.grading.code_audit.inputs import calls_near, texts_near
from burnish.sandbox.base import Engine, Limits, TestResult, TestStatus
from burnish.sandbox.tests import CallTest, StdinTest, Test, TestSuite

_MAX_STDIN = 8
"""Number of inputs of tests of standard input, each of which is a run."""
_UNTOLD = (TestStatus.PASSED, TestStatus.NOT_RUN)


def call_probes(
    engine: Engine, gold: str, calls: Sequence[KnownCall], limits: Limits, count: int, generator: random.Random
) -> TestSuite | None:
    """Calls near those of the tests, with the solution's results; None: it has no plain results.

    Results of None are left out: a function that changes its arguments returns None whatever it does.
    """
    inputs = calls_near([call.test for call in calls], count, generator)
    if not inputs:
        return None
    outputs = _results(engine, gold, inputs, limits)
    probes = [replace(call, expected=value) for call, value in zip(inputs, outputs, strict=False) if value is not None]
    return _repeated(engine, gold, tuple(call for call in probes if isinstance(call, CallTest)), limits)


def stdin_probes(
    engine: Engine, gold: str, tests: Sequence[StdinTest], limits: Limits, count: int, generator: random.Random
) -> TestSuite | None:
    """Texts near those of the tests, with what the solution prints; None: it prints nothing on any of them."""
    probes = []
    for text in texts_near([test.stdin for test in tests], min(count, _MAX_STDIN), generator):
        done = engine.run(gold, text.encode(), limits)
        printed = done.stdout.decode(errors="replace")
        if done.succeeded and printed.strip():
            probes.append(StdinTest(text, printed))
    return _repeated(engine, gold, tuple(probes), limits)


def difference(engine: Engine, program: str, probes: TestSuite, limits: Limits) -> str | None:
    """First probe on which a program differs from the solution, in words; None: there is none."""
    results = engine.test(program, probes, limits)
    pairs: Iterator[tuple[Test, TestResult]] = zip(probes.tests, results, strict=True)
    return next((_in_words(test, result) for test, result in pairs if result.status not in _UNTOLD), None)


def _in_words(test: Test, result: TestResult) -> str:
    if isinstance(test, StdinTest):
        shown = f"on the input {test.stdin!r:.120} the solution prints {test.stdout!r:.80}"
        return f"{shown}, and it does not: {result.status}"
    assert isinstance(test, CallTest), "probes are calls, or texts for standard input"
    words = [f"{value!r:.60}" for value in test.arguments]
    words += [f"{name}={value!r:.60}" for name, value in test.keywords.items()]
    call = f"{test.function}({', '.join(words)})"
    return f"{call} is {test.expected!r:.80}, and it gives another result: {result.status}"


def _repeated(
    engine: Engine, gold: str, probes: tuple[CallTest, ...] | tuple[StdinTest, ...], limits: Limits
) -> TestSuite | None:
    """The probes that the solution passes when it is run again."""
    if not probes:
        return None
    results = engine.test(gold, TestSuite(probes), limits, stop_early=False)
    kept = tuple(probe for probe, result in zip(probes, results, strict=True) if result.passed)
    return TestSuite(kept) if kept else None  # type: ignore[arg-type]  # all are of one kind


def _results(engine: Engine, gold: str, calls: Sequence[CallTest], limits: Limits) -> list[object]:
    """Results of the solution, as far as it came; None: an exception, or no plain value."""
    mark = hashlib.sha256(gold.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    entries = [(_expression(call.function), call.arguments, call.keywords) for call in calls]
    driver = _DRIVER.format(gold=gold, entries=repr(entries), mark=mark)
    printed = engine.run(driver, b"", limits).stdout.decode(errors="replace")
    lines = (line.removeprefix(mark) for line in printed.split("\n") if line.startswith(mark))
    return [_value(line) for line in lines]


def _expression(function: str) -> str:
    """``Solution().add`` of the method ``Solution.add``."""
    owner, _, name = function.rpartition(".")
    return f"{owner}().{name}" if owner else name


def _value(text: str) -> object:
    """Value of the `ascii` of a `repr`; None: it is none that can be written as a literal."""
    try:
        return ast.literal_eval(ast.literal_eval(text))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


_DRIVER = """\
import ast as _ast
_names = {{"__name__": "solution"}}
exec(compile({gold!r}, "solution.py", "exec", dont_inherit=True), _names)
for _function, _arguments, _keywords in _ast.literal_eval({entries!r}):
    try:
        _text = ascii(repr(eval(_function, _names)(*_arguments, **_keywords)))
    except Exception:
        _text = "''"
    print("\\n{mark}" + _text, flush=True)
"""
