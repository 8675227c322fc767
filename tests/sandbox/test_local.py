"""The engine on this machine: programs, commands, tests, sessions and their limits."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from burnish.sandbox.base import Ending, Engine, Level, Limits, SandboxError, TestStatus
from burnish.sandbox.fork_server import best_level
from burnish.sandbox.local import LocalEngine
from burnish.sandbox.tests import AssertTest, CallTest, StdinTest, TestSuite
from tests.sandbox.attacks.trial import descendants

QUICK = Limits(cpu_seconds=1.0, wall_seconds=30.0, total_seconds=120.0)
"""Little processor time, and clock time for a machine with other work."""
IMPATIENT = QUICK.model_copy(update={"wall_seconds": 1.0})
BEST = best_level()
MBPP = Path(__file__).parents[3] / "shared" / "data" / "mbpp" / "mbpp.jsonl"


@pytest.fixture(scope="module", params=list(Level), ids=lambda level: level.label)
def engine(request: pytest.FixtureRequest) -> Iterator[LocalEngine]:
    if request.param > BEST:
        pytest.skip(f"this machine offers level {BEST.label}")
    with LocalEngine(request.param) as found:
        yield found


def statuses(engine: Engine, program: str, suite: TestSuite, *, stop_early: bool = False) -> list[str]:
    return [result.status.value for result in engine.test(program, suite, QUICK, stop_early=stop_early)]


def asserts(*sources: str, setup: str = "", names: tuple[str, ...] | None = None) -> TestSuite:
    return TestSuite(tuple(map(AssertTest, sources)), setup, names)


def test_a_script_gets_its_input_and_gives_its_output(engine: LocalEngine) -> None:
    done = engine.run("import sys\nprint(sys.stdin.read()[::-1])\nprint('x', file=sys.stderr)", "äbc".encode(), QUICK)
    assert (done.stdout.decode(), done.stderr, done.succeeded) == ("cbä\n", b"x\n", True)
    assert 0 < done.cpu_seconds < QUICK.cpu_seconds


@pytest.mark.parametrize(
    ("program", "ending", "code"),
    [
        ("", Ending.EXITED, 0),
        ("raise SystemExit(3)", Ending.EXITED, 3),
        ("raise SystemExit('no')", Ending.EXITED, 1),
        ("import os; os._exit(7)", Ending.EXITED, 7),
        ("1 / 0", Ending.EXITED, 1),
        ("def f(:", Ending.EXITED, 1),
        ("while True: pass", Ending.TIMEOUT, None),
        ("x = bytearray(10 ** 9)", Ending.MEMORY, None),
        ("while True: print('x' * 1000)", Ending.OUTPUT, None),
        ("import sys; sys.setrecursionlimit(10 ** 6)\ndef f(): f()\nf()", None, None),
    ],
)
def test_endings(engine: LocalEngine, program: str, ending: Ending | None, code: int | None) -> None:
    done = engine.run(program, b"", QUICK)
    assert not done.succeeded or program == ""
    if ending is not None:
        assert (done.ending, done.exit_code) == (ending, code)


def test_threads_and_exit_functions_belong_to_the_program(engine: LocalEngine) -> None:
    program = (
        "import atexit, threading, time\natexit.register(print, 'last')\n"
        "threading.Thread(target=lambda: (time.sleep(0.05), print('thread'))).start()\nprint('first')"
    )
    assert engine.run(program, b"", QUICK).stdout == b"first\nthread\nlast\n"


def test_programs_that_wait(engine: LocalEngine) -> None:
    assert engine.run("import time; time.sleep(600)", b"", IMPATIENT).ending is Ending.TIMEOUT
    # The first process of a namespace ignores what it sends itself.
    program = "import os, signal; os.kill(os.getpid(), signal.SIGKILL); import time; time.sleep(600)"
    assert engine.run(program, b"", IMPATIENT).ending in (Ending.KILLED, Ending.TIMEOUT)


def test_a_program_has_nothing_of_its_caller(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "abc")
    done = engine.run(
        "import os, sys\nprint(os.getcwd() == os.environ['HOME'], os.listdir(), 'SECRET_TOKEN' in os.environ)\n"
        "opened = []\nfor number in range(64):\n    try: os.fstat(number); opened.append(number)\n"
        "    except OSError: pass\nprint(opened, [name for name in sys.modules if name.startswith('burnish')])",
        b"",
        QUICK,
    )
    assert done.stdout.decode().splitlines() == ["True [] False", "[0, 1, 2] []"]
    if os.geteuid() == 0:
        assert engine.run("import os; print(os.getuid())", b"", QUICK).stdout == b"65534\n"


def test_programs_leave_nothing_for_the_next(engine: LocalEngine) -> None:
    engine.run("import builtins, json\nopen('left', 'w').write('x')\nbuiltins.len = json.dumps = None", b"", QUICK)
    done = engine.run("import os, json; print(os.listdir(), len([1]), json.dumps(1))", b"", QUICK)
    assert done.stdout == b"[] 1 1\n"


def test_what_a_program_left_has_ended_when_the_program_is_reported(engine: LocalEngine) -> None:
    server = engine._server
    assert server is not None, "an engine that was entered has a server"
    program = (
        "import os, time\nos.closerange(0, 3)\nfor own in (True, False):\n"
        "    if os.fork() == 0:\n        if own: os.setsid()\n        memory = bytearray(2 ** 26)\n"
        "        time.sleep(20)\n        os._exit(0)\ntime.sleep(0.1)"
    )
    before = descendants(server.popen.pid)
    for _ in range(5):
        engine.run(program, b"", QUICK)
        assert descendants(server.popen.pid) <= before


def test_the_same_program_gives_the_same_output(engine: LocalEngine) -> None:
    program = "import random\nprint(random.random(), hash('a'), list({'a', 'b', 'c'}))"
    assert engine.run(program, b"", QUICK).stdout == engine.run(program, b"", QUICK).stdout


def test_asserts(engine: LocalEngine) -> None:
    suite = asserts("assert f(1) == 2", "assert f(2) == 2", "assert f('a') == 1", "x = f(4)\nassert x == 5")
    program = "def f(x): return x + 1"
    assert statuses(engine, program, suite) == ["passed", "wrong_answer", "runtime_error", "passed"]
    assert statuses(engine, program, suite, stop_early=True) == ["passed", "wrong_answer", "not_run", "not_run"]


def test_one_slow_test_costs_only_itself(engine: LocalEngine) -> None:
    program = "def f(x):\n    while x == 1: pass\n    import os\n    if x == 3: os._exit(0)\n    return x"
    suite = asserts(*(f"assert f({number}) == {number}" for number in range(6)))
    assert statuses(engine, program, suite) == ["passed", "timeout", "passed", "exited", "passed", "passed"]


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("def f(:", "compile_error"),
        ("\0", "compile_error"),
        ("1 / 0", "runtime_error"),
        ("x = 1", "runtime_error"),
        ("raise SystemExit(0)", "exited"),
        ("import os; os._exit(0)", "exited"),
        ("while True: pass", "timeout"),
        ("def f(x): return bytearray(10 ** 9)", "memory"),
        ("def f(x): return 'x' * 10 ** 7", "output"),
        ("def f(x): raise AssertionError", "runtime_error"),
        ("def f(x): raise KeyboardInterrupt", "exited"),
    ],
)
def test_programs_that_fail_every_test(engine: LocalEngine, program: str, status: str) -> None:
    assert set(statuses(engine, program, asserts("assert f(1) == 1", "assert f(2) == 2"))) == {status}


def test_calls_with_values(engine: LocalEngine) -> None:
    program = "class Solution:\n    def add(self, xs, *, by=0): return [x + by for x in xs]\ndef g(): return 2 ** 100"
    suite = TestSuite(
        (
            CallTest("Solution.add", ((1, 2),), {"by": 0.1}, [1.1, 2.1]),
            CallTest("g", expected=2**100),
            CallTest("g", expected=1),
            CallTest("h", expected=1),
        )
    )
    assert statuses(engine, program, suite) == ["passed", "passed", "wrong_answer", "runtime_error"]


def test_objects_of_the_program(engine: LocalEngine) -> None:
    program = (
        "class Node:\n    def __init__(self, value): self.value, self.next = value, None\n"
        "def total(node):\n    return 0 if node is None else node.value + total(node.next)\n"
        "def numbers():\n    yield from range(1000)\n"
        "def sort(xs): xs.sort()\n"
    )
    suite = asserts(
        "assert total(head) == 3",
        "assert head.next.value == 2 and head.next is second",
        "assert sum(numbers()) == 499500",
        "xs = [2, 1]\nsort(xs)\nassert xs == [1, 2]",
        setup="head = Node(1)\nsecond = Node(2)\nhead.next = second",
    )
    assert statuses(engine, program, suite) == ["passed"] * 4


def test_exceptions_that_a_test_expects(engine: LocalEngine) -> None:
    program = (
        "import os\nclass Own(ValueError): pass\ndef f(x):\n    if x == 0: raise Own('no')\n"
        "    if x == 1: os._exit(0)\n    if x == 2: raise SystemExit\n    return x"
    )
    test = "try:\n    f({})\nexcept {}:\n    pass\nelse:\n    assert False"
    suite = asserts(
        test.format(0, "ValueError"),
        test.format(0, "KeyError"),
        test.format(1, "BaseException"),
        test.format(2, "BaseException"),
    )
    assert statuses(engine, program, suite) == ["passed", "runtime_error", "exited", "exited"]


def test_names_of_python_are_pythons_unless_they_are_the_programs(engine: LocalEngine) -> None:
    program = "def len(x): return 3\ndef f(x): return x\ndef sum(a, b): return a + b"
    assert statuses(engine, program, asserts("assert len(f([1])) == 3")) == ["wrong_answer"]
    assert statuses(engine, program, asserts("assert sum(1, 2) == 3", names=("sum",))) == ["passed"]
    assert statuses(engine, program, asserts("assert f(math.pi) == math.pi")) == ["passed"]
    stub = asserts("assert f(1) == 1", setup="def f(x):\n    pass", names=("f",))
    assert statuses(engine, program, stub) == ["passed"]


@pytest.mark.parametrize(
    "suite",
    [
        asserts("assert f(1 =="),
        asserts("assert f(1) == 1", setup="import not_there"),
        asserts("assert f(1) == 1", setup="1 / 0"),
        asserts("assert f(lambda: 1) == 1"),
    ],
)
def test_broken_tests_are_no_verdict(engine: LocalEngine, suite: TestSuite) -> None:
    with pytest.raises(SandboxError, match="the tests cannot be run"):
        engine.test("def f(x): return 1", suite, QUICK)


def test_setup_that_needs_the_program(engine: LocalEngine) -> None:
    suite = asserts("assert a == 1", setup="a = f()")
    assert statuses(engine, "def f(): return 1", suite) == ["passed"]
    assert statuses(engine, "def g(): return 1", suite) == ["runtime_error"]


def test_texts_for_standard_input(engine: LocalEngine) -> None:
    suite = TestSuite((StdinTest("1 2", "3"), StdinTest("2 2", "5"), StdinTest("", "0")))
    program = "a, b = map(int, input().split())\nprint(a + b)"
    assert statuses(engine, program, suite) == ["passed", "wrong_answer", "runtime_error"]
    assert statuses(engine, "print(", suite) == ["compile_error"] * 3


def test_all_seconds_are_used_up(engine: LocalEngine) -> None:
    limits = Limits(cpu_seconds=5.0, wall_seconds=0.3, total_seconds=0.4)
    suite = asserts(*["assert f(1) == 1"] * 4)
    found = [
        result.status for result in engine.test("import time\ndef f(x): time.sleep(9)", suite, limits, stop_early=False)
    ]
    assert found[0] is TestStatus.TIMEOUT
    assert found[-1] is TestStatus.NOT_RUN


def test_a_session_keeps_its_state(engine: LocalEngine) -> None:
    with engine.session(QUICK) as session:
        assert session.execute("x = 2\nprint('a')").output == "a\n"
        assert session.execute("x + 1").output == "3\n"
        assert session.execute("1 / 0").error.strip().endswith("ZeroDivisionError: division by zero")
        assert "SyntaxError" in session.execute("def f(:").error
        assert session.execute("x").output == "2\n"
        assert session.execute("while True: pass").ended is Ending.TIMEOUT
        with pytest.raises(SandboxError, match="ended"):
            session.execute("x")
    with engine.session(QUICK) as session:
        assert session.execute("import os; os._exit(3)").ended is Ending.EXITED
        assert not session.alive
    with engine.session(QUICK) as session:
        assert len(session.execute("print('x' * 10 ** 7)").output) == QUICK.output_bytes


def test_commands(engine: LocalEngine) -> None:
    limits = QUICK.model_copy(update={"processes": 8})
    if engine.level is Level.RESTRICTED:
        with pytest.raises(SandboxError, match="one process"):
            engine.run_command("ls", b"", limits)
        return
    done = engine.run_command("tr a-z A-Z | head -c 3; exit 4", b"hello", limits)
    assert (done.stdout, done.exit_code) == (b"HEL", 4)


@pytest.mark.skipif(not MBPP.exists(), reason="the folder with real data is absent")
@pytest.mark.slow
def test_solutions_of_mbpp_pass() -> None:
    rows = [json.loads(line) for line in MBPP.read_text(encoding="utf-8").splitlines()]
    limits = Limits(cpu_seconds=20.0, wall_seconds=60.0, total_seconds=60.0)  # one takes seconds by itself
    failed = []
    with LocalEngine(BEST) as engine:
        for row in rows:
            names = ("sum",) if row["test_list"][0].startswith("assert sum(") else None
            tests = [*row["test_list"], *row["challenge_test_list"]]
            results = engine.test(row["code"], asserts(*tests, setup=row["test_setup_code"], names=names), limits)
            if not all(result.passed for result in results):
                failed.append((row["task_id"], results))
    assert failed == []
