"""Attacks by an early end: what ends without an error looks like a success."""

from __future__ import annotations

from tests.sandbox.attacks.record import Attack, Expected, Judge, everywhere

_EXITED = everywhere("exited")
_WRONG = everywhere("wrong_answer")


def _exit(name: str, tries: str, program: str, expected: Expected = _EXITED, **more: object) -> Attack:
    return Attack(name, "early exit", tries, program, expected, **more)  # type: ignore[arg-type]


EXITS = (
    _exit("os._exit at the top", "ends the process with status 0", "import os\nos._exit(0)"),
    _exit("sys.exit at the top", "ends the program with status 0", "import sys\nsys.exit(0)"),
    _exit("quit at the top", "ends the program with status 0", "quit()"),
    _exit("SystemExit in the function", "ends the program in the first test", "def solve(x): raise SystemExit"),
    _exit("os._exit in the function", "ends the process in the first test", "import os\ndef solve(x): os._exit(0)"),
    _exit(
        "subclass of SystemExit",
        "raises an exception of its own that ends the program",
        "class End(SystemExit, ValueError): pass\ndef solve(x): raise End(0)",
    ),
    _exit(
        "os._exit in a thread",
        "ends the process while a test waits",
        "import os, threading, time\ndef solve(x):\n    threading.Thread(target=os._exit, args=(0,)).start()\n"
        "    time.sleep(5)",
    ),
    _exit(
        "os._exit by a timer",
        "ends the process in the handler of a signal",
        "import os, signal\nsignal.signal(signal.SIGALRM, lambda *_: os._exit(0))\n"
        "def solve(x):\n    signal.setitimer(signal.ITIMER_REAL, 0.05)\n    while True: pass",
    ),
    _exit(
        "status of atexit",
        "replaces the exit status of a failure",
        "import atexit, os\natexit.register(os._exit, 0)\ndef solve(x): return 0",
        _WRONG,
    ),
    _exit(
        "hook of exceptions",
        "replaces the report of a failure by an exit",
        "import os, sys\nsys.excepthook = lambda *_: os._exit(0)\ndef solve(x): return 0",
        _WRONG,
    ),
    _exit(
        "destructor",
        "ends the process with status 0 when an object is removed at the end",
        "import os\nclass End:\n    def __del__(self): os._exit(0)\nkept = End()\ndef solve(x): return 0",
        _WRONG,
    ),
    _exit(
        "finalizer of a returned value",
        "ends the process with status 0 when the returned value is removed",
        "import os\nclass End:\n    def __del__(self, end=os._exit): end(0)\ndef solve(x): return End()",
        everywhere("wrong_answer", "exited"),
    ),
    _exit(
        "thread that outlives the test",
        "ends the process with status 0 after the failure",
        "import os, threading, time\ndef end():\n    time.sleep(0.3)\n    os._exit(0)\n"
        "threading.Thread(target=end).start()\ndef solve(x): return 0",
        everywhere("wrong_answer"),
    ),
    _exit(
        "child goes on",
        "forks; the parent ends with status 0",
        "import os\nif os.fork(): os._exit(0)\ndef solve(x): os._exit(0)",
        # The child is killed when its parent has ended, maybe while it answers: a cut answer is an error.
        Expected(("exited", "runtime_error"), ("forbidden",), ("forbidden",)),
    ),
    _exit(
        "another program",
        "replaces the process by one that ends with status 0",
        "import os\nos.execv('/bin/true', ['true'])",
        Expected(("exited",), ("forbidden",), ("forbidden",)),
    ),
    _exit(
        "interpreter without asserts",
        "starts the program again with asserts switched off",
        "import os, sys\nif __debug__: os.execv(sys.executable, [sys.executable, '-O', *sys.argv])\n"
        "def solve(x): return 0",
        Expected(("exited", "runtime_error"), ("forbidden",), ("forbidden",)),
    ),
    _exit(
        "StopIteration ends a loop",
        "raises what a loop of the tests takes for its end",
        "def solve(x): raise StopIteration",
        everywhere("runtime_error"),
        tests=("assert all(map(lambda pair: solve(pair[0]) == pair[1], [(2, 4), (3, 9)]))",),
    ),
    _exit(
        "StopIteration ends a for loop",
        "raises what a loop of the tests takes for its end",
        "def solve(x): raise StopIteration('no more')",
        everywhere("runtime_error"),
        tests=("for result in map(solve, [2, 3]):\n    assert result in (4, 9)",),
    ),
    _exit(
        "text of an exception",
        "ends the process with status 0 when the text of an exception is read",
        "import os\nclass End(Exception):\n    def __str__(self): os._exit(0)\ndef solve(x): raise End",
    ),
    _exit(
        "trace function",
        "raises SystemExit from a trace function in the code of the tests",
        "import sys\ndef trace(frame, event, argument):\n    raise SystemExit(0)\n"
        "def solve(x):\n    sys._getframe(1).f_trace = trace\n    sys.settrace(trace)\n    return 0",
        everywhere("exited", "wrong_answer"),
        tests=("def check():\n    result = solve(2)\n    assert result == 4\ncheck()",),
    ),
    _exit(
        "profile function",
        "ends the process from a profile function",
        "import os, sys\ndef solve(x):\n    sys.setprofile(lambda *_: os._exit(0))\n    return 0",
        everywhere("exited"),
    ),
    _exit(
        "audit hook",
        "ends the process from an audit hook that the failure calls",
        "import os, sys\nsys.addaudithook(lambda name, _: os._exit(0) if name == 'sys.excepthook' else None)\n"
        "def solve(x): return 0",
        _WRONG,
    ),
    _exit(
        "exit in repr",
        "ends the process when the message of the failure is made",
        "import os\nclass End:\n    def __repr__(self): os._exit(0)\ndef solve(x): return End()",
        everywhere("exited"),
        tests=("result = solve(2)\nassert result == 4, repr(result)",),
    ),
    _exit(
        "exit in an import",
        "ends the process when the tests import a module",
        "import os, sys\nclass Finder:\n    def find_spec(self, *_): os._exit(0)\n"
        "sys.meta_path.insert(0, Finder())\ndef solve(x): return 0",
        _WRONG,
        tests=("import colorsys\nassert solve(2) == 4",),
    ),
    _exit(
        "marker and exit",
        "prints what a grader looks for, and ends",
        "import os\nprint('passed', flush=True)\nos._exit(0)",
        judge=Judge.MARKER,
    ),
)
