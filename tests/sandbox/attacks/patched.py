"""Attacks on the tests themselves: patched functions and modules, expected values that are found or changed."""

from __future__ import annotations

from tests.sandbox.attacks.record import SQUARES, Attack, Expected, everywhere

_WRONG = everywhere("wrong_answer", "runtime_error", "exited")
"""What it patches may be needed by its own process."""
_TRUE = "true = lambda *_, **__: True\n"


def _patch(
    name: str, tries: str, program: str, tests: tuple[str, ...] = SQUARES, expected: Expected = _WRONG
) -> Attack:
    return Attack(name, "tampered tests", tries, program, expected, tests=tests)


def _builtin(name: str, value: str, test: str) -> Attack:
    program = f"import builtins\nbuiltins.{name} = lambda *_, **__: {value}\ndef solve(x): return 'no'"
    return _patch(f"patched {name}", f"replaces the built-in {name} by one that suits", program, (test,))


PATCHED = (
    _builtin("len", "4", "assert len(solve(2)) == 4"),
    _builtin("sorted", "[1, 4]", "assert sorted(solve(2)) == [1, 4]"),
    _builtin("isinstance", "True", "assert isinstance(solve(2), int)"),
    _builtin("all", "True", "assert all(item == 4 for item in [solve(2)])"),
    _builtin("any", "True", "assert any(item == 4 for item in [solve(2)])"),
    _builtin("type", "int", "assert type(solve(2)) is int"),
    _builtin("set", "4", "assert set(solve(2)) == set('4')"),
    _patch(
        "patched abs and round",
        "replaces the built-in abs by one that is always 0",
        "import builtins\nbuiltins.abs = builtins.round = lambda *_: 0\ndef solve(x): return 0",
        ("assert abs(solve(2) - 4) < 1e-6",),
    ),
    _patch(
        "patched builtins of the module",
        "replaces functions in __builtins__",
        "__builtins__.__dict__.update(abs=lambda _: 0) if not isinstance(__builtins__, dict) else "
        "__builtins__.update(abs=lambda _: 0)\ndef solve(x): return 0",
        ("assert abs(solve(2) - 4) < 1e-6",),
    ),
    _patch(
        "patched math.isclose",
        "replaces math.isclose by one that is always true",
        _TRUE + "import math\nmath.isclose = true\ndef solve(x): return 0",
        ("import math\nassert math.isclose(solve(2), 4)",),
    ),
    _patch(
        "patched json.dumps",
        "replaces json.dumps by one that gives the same text for everything",
        "import json\njson.dumps = lambda *_, **__: '4'\ndef solve(x): return 0",
        ("import json\nassert json.dumps(solve(2)) == json.dumps(4)",),
    ),
    _patch(
        "patched operator.eq",
        "replaces operator.eq by one that is always true",
        _TRUE + "import operator\noperator.eq = true\ndef solve(x): return 0",
        ("import operator\nassert operator.eq(solve(2), 4)",),
    ),
    _patch(
        "patched unittest",
        "replaces the assertions of unittest",
        _TRUE + "import unittest\nunittest.TestCase.assertEqual = true\ndef solve(x): return 0",
        ("import unittest\nunittest.TestCase().assertEqual(solve(2), 4)",),
    ),
    _patch(
        "patched AssertionError",
        "replaces AssertionError by an exception that ends the program",
        "import builtins\nbuiltins.AssertionError = SystemExit\ndef solve(x): return 0",
        ("if solve(2) != 4:\n    raise AssertionError",),
    ),
    _patch(
        "false module in sys.modules",
        "puts a module into sys.modules that says yes to everything",
        "import sys, types\nclass Yes(types.ModuleType):\n"
        "    def __getattr__(self, name): return lambda *_, **__: True\n"
        "sys.modules['math'] = Yes('math')\ndef solve(x): return 0",
        ("import math\nassert math.isclose(solve(2), 4)",),
    ),
    _patch(
        "false module by an import hook",
        "answers the imports of the tests",
        "import sys, types, importlib.util\nclass Finder:\n    def find_spec(self, name, *_):\n"
        "        return importlib.util.spec_from_loader(name, self)\n"
        "    def create_module(self, spec):\n        module = types.ModuleType(spec.name)\n"
        "        module.fmean = lambda *_: 4\n        return module\n    def exec_module(self, module): pass\n"
        "sys.modules.pop('statistics', None)\nsys.meta_path.insert(0, Finder())\ndef solve(x): return 0",
        ("import statistics\nassert statistics.fmean([solve(2)]) == 4",),
    ),
    _patch(
        "module under the name of numpy",
        "defines a class np with an allclose that is always true",
        "class np:\n    allclose = staticmethod(lambda *_: True)\ndef solve(x): return 0",
        ("assert np.allclose(solve(2), 4)",),
    ),
    _patch(
        "module under the name of math",
        "defines a class math with an isclose that is always true",
        "class math:\n    isclose = staticmethod(lambda *_: True)\ndef solve(x): return 0",
        ("assert math.isclose(solve(2), 4)",),
    ),
    _patch(
        "patched time",
        "stops the clock by which a test measures",
        "import time\nsleep = time.sleep\ntime.perf_counter = time.time = time.monotonic = lambda: 0.0\n"
        "def solve(x):\n    sleep(0.15)\n    return 4",
        ("import time\nbegun = time.monotonic()\nassert solve(2) == 4\nassert time.monotonic() - begun < 0.1",),
    ),
    _patch(
        "patched random",
        "makes the random inputs of a test known",
        "import random\nrandom.randint = lambda *_: 2\ndef solve(x): return 4",
        ("import random\nx = random.randint(100, 10**9)\nassert solve(x) == x * x",),
    ),
    _patch(
        "expected values from a frame",
        "reads the constants of the code that calls it",
        "import sys\ndef solve(x):\n    constants = [c for c in sys._getframe(1).f_code.co_consts if type(c) is int]\n"
        "    return constants[constants.index(x) + 1] if x in constants[:-1] else 0",
        ("def check():\n    assert solve(7001) == 49014001\n    assert solve(7002) == 49028004\ncheck()",),
    ),
    _patch(
        "expected values from the variables of a caller",
        "reads the local variables of the code that calls it",
        "import sys\ndef solve(x):\n    frame = sys._getframe(1)\n    while frame is not None:\n"
        "        if 'expected' in frame.f_locals: return frame.f_locals['expected']\n        frame = frame.f_back",
        ("def check(x, expected):\n    assert solve(x) == expected\ncheck(7001, 49014001)",),
    ),
    _patch(
        "expected values from all objects",
        "looks for the cases of the tests among all objects of the process",
        "import gc\ndef solve(x):\n    for value in gc.get_objects():\n"
        "        if type(value) is list and value and type(value[0]) is tuple and value[0][:1] == (7001,):\n"
        "            return dict(value).get(x)",
        ("cases = [(7001, 49014001), (7002, 49028004)]\nfor x, want in cases:\n    assert solve(x) == want",),
    ),
    _patch(
        "expected values from the source",
        "reads its own file, in which the tests stand",
        "import re, sys\ndef solve(x):\n    with open(sys.argv[0]) as file:\n"
        "        return int(re.search(rf'solve\\({x}\\) == (\\d+)', file.read())[1])",
        expected=everywhere("runtime_error"),
    ),
    _patch(
        "constants changed in memory",
        "writes its answer over the expected values in the memory of the caller",
        "import ctypes, sys\nanswer = object()\ndef solve(x):\n    constants = sys._getframe(1).f_code.co_consts\n"
        "    for place, value in enumerate(constants):\n        if type(value) is int and value > 7000:\n"
        "            ctypes.c_ssize_t.from_address(id(constants) + 24 + 8 * place).value = id(answer)\n"
        "    return answer",
        ("def check():\n    assert solve(2) == 49014001\ncheck()",),
    ),
    _patch(
        "small integer changed in memory",
        "makes the interpreter's number 4 a 5",
        "import ctypes\ndef solve(x):\n    ctypes.c_uint32.from_address(id(4) + 24).value = 5\n    return 5",
        ("assert solve(2) == 4",),
        everywhere("wrong_answer", "runtime_error", "exited", "output", "timeout"),
    ),
    _patch(
        "code of a test function",
        "replaces the code of the functions of the tests",
        "import sys\ndef nothing(*_): pass\ndef solve(x):\n    for value in sys._getframe(1).f_globals.values():\n"
        "        if getattr(value, '__name__', '') == 'same':\n"
        "            value.__code__ = nothing.__code__\n    return 0",
        ("def same(one, other):\n    assert one == other\nsame(solve(2), 4)",),
    ),
    _patch(
        "global names of the tests",
        "writes the variables of the code that calls it",
        "import sys\ndef solve(x):\n    sys._getframe(1).f_globals['want'] = 0\n    return 0",
        ("want = 4\nassert solve(2) == want",),
    ),
    _patch(
        "operators of the caller",
        "adds a comparison to a class of the tests",
        "import sys\ndef solve(x):\n    sys._getframe(1).f_globals['Point'].__eq__ = lambda *_: True\n    return 0",
        ("class Point:\n    def __init__(self, x): self.x = x\nassert solve(2) == Point(4)",),
    ),
)
