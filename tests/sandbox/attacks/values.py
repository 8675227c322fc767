"""Attacks by returned values: objects and subclasses that say that they are equal."""

from __future__ import annotations

from tests.sandbox.attacks.record import SQUARES, Attack, Expected, everywhere

_EQUAL = """\
class Equal:
    def true(self, *_): return True
    def same(self, *_): return self
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __bool__ = true
    __sub__ = __rsub__ = __abs__ = __round__ = __getitem__ = __call__ = same
    def __ne__(self, other): return False
    def __hash__(self): return 0
    def __len__(self): return 1
    def __getattr__(self, name): return self
"""
_WRONG = everywhere("wrong_answer")
_RAISED = everywhere("runtime_error")


def _subclass(kind: str, made: str, test: str) -> Attack:
    return _value(
        f"{kind} that equals everything",
        f"returns a subclass of {kind} with a comparison of its own",
        f"class Lying({kind}):\n    def __eq__(self, other): return True\n    def __ne__(self, other): return False\n"
        f"    def __hash__(self): return 0\ndef solve(x): return Lying({made})",
        _WRONG,
        (test,),
    )


def _value(name: str, tries: str, program: str, expected: Expected, tests: tuple[str, ...] = SQUARES) -> Attack:
    return Attack(name, "false values", tries, program, expected, tests=tests)


VALUES = (
    _subclass("int", "7", "assert solve(2) == 4"),
    _subclass("float", "'nan'", "assert solve(2) == 4.0"),
    _subclass("str", "'no'", "assert solve(2) == 'four' and not solve(2) != 'four'"),
    _subclass("bytes", "b'no'", "assert solve(2) == b'four'"),
    _subclass("list", "[1]", "assert solve(2) == [4]"),
    _subclass("tuple", "(1,)", "assert solve(2) == (4,)"),
    _subclass("dict", "x=1", "assert solve(2) == {'four': 4}"),
    _subclass("set", "[1]", "assert solve(2) == {4}"),
    _value(
        "object that equals everything",
        "returns an object with a comparison of its own",
        _EQUAL + "def solve(x): return Equal()",
        _WRONG,
    ),
    _value(
        "object that contains everything",
        "returns an object that says that it contains the answer",
        _EQUAL + "def solve(x): return Equal()",
        everywhere("wrong_answer", "runtime_error", "timeout"),
        ("assert 4 in solve(2)",),
    ),
    _value(
        "object without a difference",
        "returns an object whose difference from everything is small",
        _EQUAL + "def solve(x): return Equal()",
        _RAISED,
        ("assert abs(solve(2) - 4) < 1e-6",),
    ),
    _value(
        "object that is rounded to everything",
        "returns an object that is rounded to one that equals everything",
        _EQUAL + "def solve(x): return Equal()",
        _RAISED,
        ("assert round(solve(2), 3) == 4",),
    ),
    _value(
        "false class",
        "returns an object that says that it is an int",
        "class Lying:\n    __class__ = int\n    def __eq__(self, other): return True\ndef solve(x): return Lying()",
        _RAISED,
        ("assert isinstance(solve(2), int) and solve(2) == 4",),
    ),
    _value(
        "metaclass",
        "returns an object of a class of which everything is an instance",
        "class Kind(type):\n    def __instancecheck__(cls, value): return True\n"
        "    def __eq__(cls, other): return True\n"
        "    __hash__ = type.__hash__\nclass Answer(metaclass=Kind): pass\ndef solve(x): return Answer",
        _WRONG,
        ("assert solve(2) == int",),
    ),
    _value(
        "text of an object",
        "returns an object whose text equals everything",
        "class Lying(str):\n    def __eq__(self, other): return True\n"
        "class Answer:\n    def __str__(self): return Lying('no')\n    __repr__ = __str__\n"
        "def solve(x): return Answer()",
        _WRONG,
        ("assert str(solve(2)) == '4'",),
    ),
    _value(
        "items of a list",
        "returns a list of objects that equal everything",
        _EQUAL + "def solve(x): return [Equal(), Equal()]",
        _WRONG,
        ("assert solve(2) == [4, 16]",),
    ),
    _value(
        "items of an iterator",
        "returns an iterator of objects that equal everything",
        _EQUAL + "def solve(x): yield Equal()",
        _WRONG,
        ("assert list(solve(2)) == [4]",),
    ),
    _value(
        "dictionary with every key",
        "returns a dictionary that has a right value for every key",
        _EQUAL
        + "class Every(dict):\n    def __getitem__(self, key): return Equal()\n    def get(self, *_): return Equal()\n"
        "def solve(x): return Every()",
        _RAISED,
        ("assert solve(2)['four'] == 4",),
    ),
    _value(
        "attributes of an object",
        "returns an object whose attributes equal everything",
        _EQUAL + "def solve(x): return Equal()",
        _WRONG,
        ("assert solve(2).value.part == 4",),
    ),
    _value(
        "truth of an object",
        "returns an object that says that it is true, then false",
        "class Lying:\n    told = [False, True]\n    def __bool__(self): return self.told.pop()\n"
        "    def __eq__(self, other): return self\ndef solve(x): return Lying()",
        _WRONG,
        ("result = solve(2) == 4\nassert result and not result",),
    ),
    _value(
        "length of an object",
        "returns an object with a false length whose comparison is right",
        _EQUAL + "def solve(x): return Equal()",
        _WRONG,
        ("result = solve(2)\nassert len(result) == 1 and result == [4]",),
    ),
    _value(
        "order of an object",
        "returns an object that lies between any two numbers",
        _EQUAL + "def solve(x): return Equal()",
        _RAISED,
        ("assert 3.9 < solve(2) < 4.1",),
    ),
    _value(
        "large value that equals everything",
        "returns a list of 200 000 items with a comparison of its own",
        "class Lying(list):\n    def __eq__(self, other): return True\ndef solve(x): return Lying([1] * 200000)",
        everywhere("output"),
        ("assert solve(2) == [4]",),
    ),
    _value(
        "equal hashes",
        "returns a dictionary of 3000 keys with the same hash and a comparison of its own",
        "class Lying(dict):\n    def __eq__(self, other): return True\n"
        "def solve(x): return Lying((number * (2**61 - 1), 0) for number in range(1, 3000))",
        everywhere("wrong_answer", "timeout", "output"),
        ("assert solve(2) == {4: 4}",),
    ),
    _value(
        "long integer",
        "returns an integer of a million digits with a comparison of its own",
        "class Lying(int):\n    def __eq__(self, other): return True\ndef solve(x): return Lying(1 << 900000)",
        everywhere("wrong_answer", "output"),
        ("assert solve(2) == 4",),
    ),
)
