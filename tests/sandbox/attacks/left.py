"""Attacks on the next program: what is left in files, memory, processes and the kernel."""

from __future__ import annotations

from tests.sandbox.attacks.record import CALLS, Attack, Expected, Judge, confined, everywhere, script

_IPC = CALLS + "key = 0x62757231\n"
_LOOK = "\nprint(HOST['word'])"


def _left(name: str, tries: str, program: str, after: str, expected: Expected, judge: Judge = Judge.EFFECT) -> Attack:
    return script(name, "left for the next program", tries, program, expected, judge=judge, after=after)


def _in_folder(folder: str, expected: Expected) -> Attack:
    return _left(
        f"file in {folder}",
        f"leaves a file in {folder}",
        f"import os\nopen(os.path.join({folder!r}, HOST['mark']), 'x').close()",
        f"import os\nif os.path.exists(os.path.join({folder!r}, HOST['mark'])): print(HOST['word'])",
        expected,
    )


LEFT = (
    _in_folder(".", everywhere("exited")),
    _in_folder("/tmp", Expected(None, ("exited",), ("exited",))),
    _in_folder("/dev/shm", confined("exited")),
    _in_folder("/var/tmp", confined("exited")),
    _left(
        "module in the working folder",
        "leaves a module under the name of one of the standard library",
        "open('colorsys.py', 'w').write('left = True')",
        "import sys\nsys.path.insert(0, '')\nimport colorsys\nif hasattr(colorsys, 'left'): print(HOST['word'])",
        everywhere("exited"),
    ),
    _left(
        "patched builtins",
        "leaves a patched function in the interpreter",
        "import builtins\nbuiltins.left = True",
        "import builtins\nif hasattr(builtins, 'left'): print(HOST['word'])",
        everywhere("exited"),
        Judge.TWO,
    ),
    _left(
        "patched module",
        "leaves a patched module in the interpreter",
        "import json, sys\njson.left = True\nsys.modules['left'] = json",
        "import json, sys\nif hasattr(json, 'left') or 'left' in sys.modules: print(HOST['word'])",
        everywhere("exited"),
        Judge.TWO,
    ),
    _left(
        "environment and folder",
        "leaves a variable of the environment, a limit and a handler",
        "import os, signal\nos.environ['LEFT'] = 'x'\nsignal.signal(signal.SIGUSR1, signal.SIG_IGN)",
        "import os, signal\n"
        "if 'LEFT' in os.environ or signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN: print(HOST['word'])",
        everywhere("exited"),
        Judge.TWO,
    ),
    _left(
        "random state",
        "leaves a seed of random numbers",
        "import random\nrandom.seed('left')\nrandom.seed = lambda *_: None",
        "import random\nvalue = random.random()\nif value == random.Random('left').random(): print(HOST['word'])",
        everywhere("exited"),
        Judge.TWO,
    ),
    _left(
        "trace and audit",
        "leaves an audit hook that reads the next program",
        "import sys, builtins\nbuiltins.seen = []\n"
        "sys.addaudithook(lambda name, arguments: builtins.seen.append(name))",
        "import builtins\nopen('/dev/null').close()\nif getattr(builtins, 'seen', None): print(HOST['word'])",
        everywhere("exited"),
        Judge.TWO,
    ),
    _left(
        "shared memory",
        "leaves a segment of System V shared memory",
        _IPC + "called(libc.shmget(key, 4096, 0o1666))",
        _IPC + "number = called(libc.shmget(key, 4096, 0))\nlibc.shmctl(number, 0, None)" + _LOOK,
        confined("forbidden"),
    ),
    _left(
        "semaphore",
        "leaves a System V semaphore",
        _IPC + "called(libc.semget(key, 1, 0o1666))",
        _IPC + "number = called(libc.semget(key, 1, 0))\nlibc.semctl(number, 0, 0)" + _LOOK,
        confined("forbidden"),
    ),
    _left(
        "message queue",
        "leaves a System V message queue",
        _IPC + "called(libc.msgget(key, 0o1666))",
        _IPC + "number = called(libc.msgget(key, 0))\nlibc.msgctl(number, 0, None)" + _LOOK,
        confined("forbidden"),
    ),
    _left(
        "POSIX queue",
        "leaves a POSIX message queue",
        CALLS
        + "rt = ctypes.CDLL('librt.so.1', use_errno=True)\ncalled(rt.mq_open(b'/burnish-left', 0o102, 0o666, None))",
        CALLS + "rt = ctypes.CDLL('librt.so.1', use_errno=True)\ncalled(rt.mq_open(b'/burnish-left', 0))\n"
        "rt.mq_unlink(b'/burnish-left')" + _LOOK,
        Expected(("exited", "forbidden"), ("forbidden",), ("forbidden",)),
    ),
    _left(
        "named semaphore",
        "leaves a named semaphore",
        CALLS + "libc.sem_open.restype = ctypes.c_void_p\n"
        "if not libc.sem_open(b'/burnish-left', os.O_CREAT, 0o666, 1): called(-1)",
        CALLS + "libc.sem_open.restype = ctypes.c_void_p\nif not libc.sem_open(b'/burnish-left', 0): called(-1)\n"
        "libc.sem_unlink(b'/burnish-left')" + _LOOK,
        confined("exited"),
    ),
    _left(
        "keyring",
        "leaves a key in the keyring of the user",
        CALLS + "called(libc.syscall(248, b'user', b'burnish-left', b'x', 1, -4))",
        CALLS
        + "key = called(libc.syscall(250, 10, -4, b'user', b'burnish-left', 0))\nlibc.syscall(250, 9, key, -4)"
        + _LOOK,
        confined("forbidden"),
    ),
    _left(
        "lock",
        "leaves a process that holds a lock on a file of the system",
        "import fcntl, os\nfile = os.open('/bin/true', os.O_RDONLY)\nfcntl.flock(file, fcntl.LOCK_EX)\n"
        "if os.fork() == 0:\n    import time\n    time.sleep(1.0)\n    os._exit(0)",
        "import fcntl, os\nfile = os.open('/bin/true', os.O_RDONLY)\n"
        "try: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\nexcept BlockingIOError: print(HOST['word'])",
        confined("forbidden"),
    ),
    script(
        "daemon",
        "left for the next program",
        "leaves a process in a session of its own",
        CALLS + "import time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        libc.prctl(15, HOST['mark'].encode())\n        os.closerange(0, 64)\n"
        "        time.sleep(20)\n    os._exit(0)\n"
        "os.wait()\ntime.sleep(0.1)",
        Expected(("exited",), ("forbidden",), ("forbidden",)),
    ),
    script(
        "daemon with children",
        "left for the next program",
        "leaves a process whose children go on when it is ended",
        CALLS
        + "import time\nif os.fork() == 0:\n    os.setsid()\n    for _ in range(3):\n        if os.fork(): break\n"
        "        os.setsid()\n    libc.prctl(15, HOST['mark'].encode())\n    os.closerange(0, 64)\n    time.sleep(20)\n"
        "time.sleep(0.1)",
        Expected(("exited",), ("forbidden",), ("forbidden",)),
    ),
    script(
        "socket of a daemon",
        "left for the next program",
        "leaves a process that listens at an abstract address",
        "import os, socket, time\nserver = socket.socket(socket.AF_UNIX)\n"
        "server.bind('\\0' + HOST['mark'])\nserver.listen()\n"
        "if os.fork() == 0:\n    os.closerange(0, 3)\n    time.sleep(2)\n    os._exit(0)",
        Expected(("exited",), ("forbidden",), ("forbidden",)),
        after="import socket\nclient = socket.socket(socket.AF_UNIX)\n"
        "client.connect('\\0' + HOST['mark'])\nprint(HOST['word'])",
    ),
)
