"""What tests do with functions, objects, iterators and exceptions of the program, which are in another process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from burnish.sandbox.base import Limits, SandboxError, UnusableTestsError
from burnish.sandbox.fork_server import best_level
from burnish.sandbox.local import LocalEngine
from burnish.sandbox.tests import AssertTest, TestSuite

LIMITS = Limits(cpu_seconds=1.0, wall_seconds=30.0, total_seconds=120.0)


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    with LocalEngine(best_level()) as found:
        yield found


COUNT = "def count(n):\n    for number in range(n):\n        yield number"
NO_ERROR = "\nelse:\n    assert False"
RAISES = "class Bad(ValueError): ...\ndef check(x):\n    if x < 0:\n        raise {}\n    return x"
PASS: dict[str, tuple[str, str]] = {
    "an item of a generator": (COUNT, "it = count(3)\nassert next(it) == 0\nassert next(it) == 1"),
    "the end of a generator": (COUNT, "it = count(1)\nassert next(it) == 0\nassert next(it, None) is None"),
    "a generator that is its iterator": (COUNT, "it = count(3)\nassert iter(it) is it"),
    "a generator in two parts": (
        COUNT,
        "from itertools import islice\nit = count(1000)\nassert list(islice(it, 5)) == [0, 1, 2, 3, 4]\n"
        "assert next(it) == 5\nassert list(it) == list(range(6, 1000))",
    ),
    "a generator that fails after its items": (
        "def count():\n    yield 0\n    raise ValueError",
        "it = count()\nassert next(it) == 0\ntry:\n    next(it)\nexcept ValueError:\n    pass" + NO_ERROR,
    ),
    "the message of an exception": (
        RAISES.format("ValueError('it is negative')"),
        "try:\n    check(-1)\nexcept ValueError as error:\n    assert str(error) == 'it is negative'" + NO_ERROR,
    ),
    "the message of an exception of its own": (
        RAISES.format("Bad('it is negative')"),
        "try:\n    check(-1)\nexcept ValueError as error:\n    assert str(error) == 'it is negative'" + NO_ERROR,
    ),
    "the arguments of an exception": (
        RAISES.format("KeyError(x, [1])"),
        "try:\n    check(-1)\nexcept KeyError as error:\n    assert error.args == (-1, [1])" + NO_ERROR,
    ),
    "an exception with five arguments": (
        "def check(x):\n    return x.decode('utf-8')",
        "try:\n    check(b'\\xff')\nexcept UnicodeDecodeError as error:\n    assert error.start == 0" + NO_ERROR,
    ),
    "a class": (
        "class A: ...\nclass B(A): ...\ndef make():\n    return B()",
        "assert isinstance(make(), A) and issubclass(B, A) and not isinstance(A(), B) and not isinstance(1, A)",
    ),
    "a function that takes another": (
        "def twice(f):\n    return lambda x: f(f(x))\ndef add(x):\n    return x + 1",
        "assert twice(add)(1) == 3",
    ),
    "a list changed in place by name": ("def sort(xs):\n    xs.sort()", "a = [3, 1]\nsort(xs=a)\nassert a == [1, 3]"),
}


@pytest.mark.parametrize("name", PASS)
def test_a_right_program_passes(engine: LocalEngine, name: str) -> None:
    program, test = PASS[name]
    [result] = engine.test(program, TestSuite((AssertTest(test),)), LIMITS)
    assert result.passed, result


FAIL: dict[str, tuple[str, str]] = {
    "an empty generator": ("def count(n):\n    yield from ()", "assert next(count(3)) == 0"),
    "no iterator": ("class A: ...", "next(A())"),
    "another message": (
        RAISES.format("ValueError('no')"),
        "try:\n    check(-1)\nexcept ValueError as error:\n    assert str(error) == 'yes'",
    ),
    "another class": ("class A: ...\nclass B: ...", "assert isinstance(A(), B)"),
}


@pytest.mark.parametrize("name", FAIL)
def test_a_wrong_program_fails(engine: LocalEngine, name: str) -> None:
    program, test = FAIL[name]
    [result] = engine.test(program, TestSuite((AssertTest(test),)), LIMITS)
    assert not result.passed


@pytest.mark.parametrize("source", ["assert f(lambda x: x) == 1", "import nowhere_at_all\nassert f(1) == 1"])
def test_tests_that_cannot_be_run_are_told_apart_from_a_failure(engine: LocalEngine, source: str) -> None:
    assert issubclass(UnusableTestsError, SandboxError)
    setup, _, test = source.rpartition("\n")
    with pytest.raises(UnusableTestsError, match="cannot be run"):
        engine.test("def f(x):\n    return 1", TestSuite((AssertTest(test),), setup), LIMITS)
