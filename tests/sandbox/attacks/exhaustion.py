"""Attacks by use of time, memory, processes, output and files."""

from __future__ import annotations

from tests.sandbox.attacks.record import CALLS, QUICK, Attack, Expected, Judge, confined, everywhere, isolated, script

_TIMEOUT = everywhere("timeout")
_WORD = "\nprint(HOST['word'])\n"
_NO_FORK = confined("forbidden")


def _time(name: str, tries: str, program: str, expected: Expected = _TIMEOUT) -> Attack:
    return script(name, "time", tries, program, expected, judge=Judge.OUTLASTS)


def _tested(name: str, tries: str, program: str, tests: tuple[str, ...] = ("assert solve(2) == 4",)) -> Attack:
    return Attack(name, "time", tries, program, _TIMEOUT, Judge.OUTLASTS, tests)


TIME = (
    _time("endless loop", "computes for ever", "while True: pass"),
    _time("endless sleep", "sleeps for ever", "import time\ntime.sleep(1000)"),
    _time("endless loop in C", "computes a number of 10**8 digits in one step", "x = 10 ** 10 ** 8"),
    _time(
        "text of a long number",
        "writes a number of a million digits",
        "import sys\nsys.set_int_max_str_digits(0)\nstr(3 ** 9000000)",
    ),
    _time(
        "regular expression",
        "searches with an expression of exponential time",
        "import re\nre.match('(a+)+$', 'a' * 40 + 'b')",
    ),
    _time(
        "signals ignored",
        "ignores all signals, and computes for ever",
        "import signal\nfor number in range(1, 65):\n    try: signal.signal(number, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\nwhile True: pass",
    ),
    _time(
        "exceptions swallowed",
        "catches every exception, and goes on for ever",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    ),
    _time(
        "stops itself",
        "stops itself by a signal",
        "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\nwhile True: signal.pause()",
    ),
    _time(
        "lock",
        "waits for a lock that it holds",
        "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()",
    ),
    _time(
        "thread at the end",
        "leaves a thread that never ends",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()\ntime.sleep(1000)",
    ),
    _time(
        "closed descriptors",
        "closes all descriptors, and sleeps",
        "import os, time\nos.closerange(0, 256)\ntime.sleep(1000)",
    ),
    _time(
        "processor limit raised",
        "raises its limit of processor time, and computes",
        "import resource\ntry: resource.setrlimit(resource.RLIMIT_CPU, (1000, 1000))\n"
        "except (OSError, ValueError): pass\nwhile True: pass",
    ),
    _tested(
        "endless iterator",
        "returns an iterator without an end",
        "def solve(x):\n    while True: yield 4",
        ("assert list(zip(solve(2), iter(int, 1))) == [4]",),
    ),
    _tested(
        "endless repr",
        "returns an object whose text takes for ever",
        "class Slow:\n    def __repr__(self):\n        while True: pass\ndef solve(x): return Slow()",
        ("result = solve(2)\nassert result == 4, repr(result)",),
    ),
    _tested(
        "endless text of an exception",
        "raises an exception whose text takes for ever",
        "class Slow(Exception):\n    def __str__(self):\n        while True: pass\ndef solve(x): raise Slow",
    ),
    _tested(
        "endless destructor",
        "returns an object whose removal takes for ever",
        "class Slow:\n    def __del__(self):\n        while True: pass\ndef solve(x):\n    Slow()\n    return 4",
    ),
    _tested("endless at the top", "never ends loading", "import time\ntime.sleep(1000)"),
)

_THREADS = (
    "import threading, time\nthreading.stack_size(65536)\n"
    "for _ in range(200): threading.Thread(target=time.sleep, args=(0.3,), daemon=True).start()"
)
_FORKS = (
    "import os, time\nchildren = []\nfor _ in range(40):\n    child = os.fork()\n    if child == 0:\n"
    "        time.sleep(0.2)\n        os._exit(0)\n    children.append(child)\n"
    "for child in children: os.waitpid(child, 0)"
)
MEMORY = (
    script(
        "memory at once",
        "memory",
        "allocates 700 MiB at once",
        "x = bytearray(700 << 20)" + _WORD,
        everywhere("memory"),
    ),
    script(
        "memory in parts",
        "memory",
        "allocates 700 MiB in parts",
        "x = [bytes(1 << 20) for _ in range(700)]" + _WORD,
        everywhere("memory"),
    ),
    script(
        "memory by a map",
        "memory",
        "maps 700 MiB",
        "import mmap\nx = mmap.mmap(-1, 700 << 20)" + _WORD,
        everywhere("exited"),
    ),
    script(
        "memory limit raised",
        "memory",
        "raises its limit, then allocates",
        "import resource\ntry: resource.setrlimit(resource.RLIMIT_AS, (-1, -1))\n"
        "except (OSError, ValueError): pass\nx = bytearray(700 << 20)" + _WORD,
        everywhere("memory"),
    ),
    script(
        "memory of a file",
        "memory",
        "makes a file in memory, and fills it",
        "import os\nfile = os.memfd_create('x')\nos.write(file, bytes(8 << 20))" + _WORD,
        confined("forbidden"),
    ),
    script(
        "recursion",
        "memory",
        "calls itself until the stack is full",
        "import sys\nsys.setrecursionlimit(10 ** 8)\nclass A:\n"
        "    def __getattr__(self, name): return getattr(self, name + 'x')\n"
        "def f(n): return repr([f, n]) and [*map(f, [n + 1])]\nf(0)",
        everywhere("killed", "memory", "timeout"),
        judge=Judge.CRASH,
    ),
    script(
        "null pointer",
        "memory",
        "reads at the address 0",
        "import ctypes\nctypes.string_at(0)",
        everywhere("killed"),
        judge=Judge.CRASH,
    ),
    script(
        "reference count of None",
        "memory",
        "sets the reference count of None to 1",
        "import ctypes\nctypes.c_ssize_t.from_address(id(None)).value = 1\n"
        "for _ in range(100): [None] * 10\nimport os\nos.abort()",
        everywhere("killed"),
        judge=Judge.CRASH,
    ),
    Attack(
        "memory in a test",
        "memory",
        "allocates 700 MiB in a test, and returns what equals everything",
        "class Lying:\n    def __eq__(self, other): return True\ndef solve(x):\n"
        "    bytearray(700 << 20)\n    return Lying()",
        everywhere("memory"),
    ),
)
PROCESSES = (
    script(
        "forks",
        "processes",
        "starts forty processes",
        _FORKS + _WORD,
        _NO_FORK,
        limits=QUICK.model_copy(update={"wall_seconds": 3.0}),
    ),
    script(
        "program of the system",
        "processes",
        "starts a program of the system",
        "import subprocess\nsubprocess.run(['/bin/true'], check=True)" + _WORD,
        _NO_FORK,
    ),
    script(
        "program by posix_spawn",
        "processes",
        "starts a program by posix_spawn",
        "import os\nos.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)" + _WORD,
        _NO_FORK,
    ),
    script(
        "program by the shell",
        "processes",
        "starts a program by os.system",
        "import os\nif os.system('exit 0') == 0: print(HOST['word'])",
        confined("exited", "forbidden"),
    ),
    script(
        "another interpreter",
        "processes",
        "replaces itself by another interpreter",
        "import os, sys\nos.execv(sys.executable, [sys.executable, '-c', f'print({HOST[\"word\"]!r})'])",
        _NO_FORK,
    ),
    script(
        "process by clone",
        "processes",
        "starts a process by clone",
        CALLS + "if called(libc.syscall(56, 17, 0, 0, 0, 0)) == 0: os._exit(0)\nos.wait()" + _WORD,
        _NO_FORK,
        machine="x86_64",
    ),
    script(
        "process by vfork",
        "processes",
        "starts a process by vfork",
        CALLS + "if called(libc.syscall(58)) == 0: libc._exit(0)\nos.wait()" + _WORD,
        _NO_FORK,
        machine="x86_64",
    ),
    script(
        "process by clone3",
        "processes",
        "starts a process by clone3",
        CALLS + "import struct\nblock = struct.pack('8Q', 0, 0, 0, 0, 17, 0, 0, 0)\n"
        "if called(libc.syscall(435, block, 64)) == 0: os._exit(0)\nos.wait()" + _WORD,
        confined("exited"),
    ),
    script(
        "process pool",
        "processes",
        "starts processes by multiprocessing",
        "import multiprocessing\n"
        "worker = multiprocessing.get_context('fork').Process(target=print)\nworker.start()\n"
        "worker.join()" + _WORD,
        _NO_FORK,
    ),
    script(
        "threads", "processes", "starts two hundred threads with small stacks", _THREADS + _WORD, isolated("exited")
    ),
)
OUTPUT = (
    script(
        "output",
        "output",
        "writes four mebibytes to standard output",
        "for _ in range(4096): print('x' * 1023)" + _WORD,
        everywhere("output"),
    ),
    script(
        "errors",
        "output",
        "writes four mebibytes to standard error",
        "import sys\nfor _ in range(4096): print('x' * 1023, file=sys.stderr)" + _WORD,
        everywhere("output"),
    ),
    script(
        "output by both",
        "output",
        "writes to standard output and error in turn",
        "import os\nfor number in range(4096): os.write(1 + number % 2, b'x' * 1024)\n"
        "os.write(1, HOST['word'].encode())",
        everywhere("output"),
    ),
    script(
        "large file",
        "output",
        "writes a file of 32 MiB",
        "with open('x', 'wb') as file:\n    for _ in range(32): file.write(bytes(1 << 20))" + _WORD,
        everywhere("exited", "killed"),
    ),
    script(
        "file with holes",
        "output",
        "makes a file of 32 MiB without content",
        "with open('x', 'wb') as file: file.truncate(32 << 20)" + _WORD,
        everywhere("exited", "killed"),
    ),
    script(
        "many files",
        "output",
        "writes forty files of 1 MiB",
        "for number in range(40):\n    with open(f'x{number}', 'wb') as file: file.write(bytes(1 << 20))" + _WORD,
        isolated("exited"),
    ),
    script(
        "small files",
        "output",
        "makes ten thousand empty files",
        "for number in range(10000): open(f'x{number}', 'x').close()" + _WORD,
        isolated("exited", "timeout"),
        limits=QUICK.model_copy(update={"cpu_seconds": 3.0, "wall_seconds": 6.0}),
    ),
    script(
        "descriptors",
        "output",
        "opens two hundred files",
        "kept = [open('/dev/null') for _ in range(200)]" + _WORD,
        everywhere("exited"),
    ),
    script(
        "standard input as a file",
        "output",
        "writes 32 MiB into its standard input",
        "import os\nfor _ in range(32): os.write(0, bytes(1 << 20))" + _WORD,
        everywhere("exited", "killed"),
    ),
)
EXHAUSTION = (*TIME, *MEMORY, *PROCESSES, *OUTPUT)
