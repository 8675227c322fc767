"""Attacks on other processes: signals, memory, descriptors, priorities."""

from __future__ import annotations

from tests.sandbox.attacks.record import CALLS, Attack, Expected, confined, script

_STOPPED = confined("exited", "forbidden")
_WORD = "\nprint(HOST['word'])"


def _other(name: str, tries: str, program: str, expected: Expected = _STOPPED, **more: object) -> Attack:
    return script(name, "other processes", tries, CALLS + program, expected, **more)  # type: ignore[arg-type]


OTHERS = (
    _other(
        "signal",
        "ends another process of its user",
        "import signal\nos.kill(HOST['victim'], signal.SIGTERM)\nimport time\ntime.sleep(0.2)",
    ),
    _other(
        "signal to a thread",
        "ends another process by tgkill",
        "called(libc.syscall(234, HOST['victim'], HOST['victim'], 15))\nimport time\ntime.sleep(0.2)",
        machine="x86_64",
    ),
    _other(
        "queued signal",
        "ends another process by a queued signal",
        "block = (ctypes.c_int * 32)(15, 0, -1)\n"
        "called(libc.syscall(129, HOST['victim'], 15, block))\nimport time\ntime.sleep(0.2)",
        machine="x86_64",
    ),
    _other(
        "signal by a descriptor",
        "ends another process by a descriptor of it",
        "import signal, time\nsignal.pidfd_send_signal(os.pidfd_open(HOST['victim']), signal.SIGTERM)\ntime.sleep(0.2)",
    ),
    _other(
        "signal of a pipe",
        "has the kernel send a signal of its choice to another process when a pipe is ready",
        "import fcntl, time\none, other = os.pipe()\n"
        "fcntl.fcntl(one, fcntl.F_SETOWN, HOST['victim'])\nfcntl.fcntl(one, 10, 15)\n"
        "fcntl.fcntl(one, fcntl.F_SETFL, os.O_ASYNC)\nos.write(other, b'x')\ntime.sleep(0.2)",
        confined("forbidden"),
    ),
    _other(
        "signal of a socket",
        "does that by ioctl",
        "import fcntl, socket, struct, time\none, other = socket.socketpair()\n"
        "fcntl.ioctl(one, 0x8901, struct.pack('i', HOST['victim']))\n"
        "fcntl.fcntl(one, fcntl.F_SETFL, os.O_ASYNC)\nother.send(b'x')\ntime.sleep(0.2)",
        confined("forbidden"),
    ),
    _other(
        "signal to its parent",
        "finds out whether it may signal its parent",
        "os.kill(os.getppid(), 0)" + _WORD,
        confined("forbidden"),
    ),
    _other(
        "signal to its group",
        "finds out whether it may signal a group",
        "os.killpg(0, 0)" + _WORD,
        confined("forbidden"),
    ),
    _other(
        "signal to all",
        "finds out whether it may signal all processes",
        "os.kill(-1, 0)" + _WORD,
        confined("forbidden"),
    ),
    _other(
        "tracing",
        "attaches itself to another process as a debugger",
        "called(libc.ptrace(16, HOST['victim'], None, None))\nos.waitpid(HOST['victim'], 0)\n"
        "called(libc.ptrace(17, HOST['victim'], None, None))" + _WORD,
        confined("forbidden"),
    ),
    _other(
        "traced by others",
        "lets its parent trace it",
        "called(libc.ptrace(0, 0, None, None))" + _WORD,
        confined("forbidden"),
    ),
    _other(
        "memory of a process",
        "reads the memory of another process",
        "place = next(line.split()[0].split('-') for line in open(f'/proc/{HOST[\"victim\"]}/maps') if "
        "'[stack]' in line)\n"
        "begin, end = (int(part, 16) for part in place)\n"
        "with open(f'/proc/{HOST[\"victim\"]}/mem', 'rb', 0) as file:\n    file.seek(begin)\n"
        "    memory = file.read(end - begin)\nat = memory.index(b'BURNISH_SECRET=')\n"
        "print(memory[at:at + 64].decode(errors='replace'))",
    ),
    _other(
        "memory by process_vm_readv",
        "reads the memory of another process by a call",
        "block = ctypes.create_string_buffer(64)\nclass Part(ctypes.Structure):\n"
        "    _fields_ = [('at', ctypes.c_void_p), ('size', ctypes.c_size_t)]\n"
        "mine = Part(ctypes.addressof(block), 64)\n"
        "try: at = int(open(f'/proc/{HOST[\"victim\"]}/stat').read().split()[27])\n"
        "except OSError: at = 1 << 46\n"
        "called(libc.process_vm_readv(HOST['victim'], ctypes.byref(mine), 1, ctypes.byref(Part(at, "
        "64)), 1, 0))" + _WORD,
        confined("forbidden"),
    ),
    _other(
        "environment of a process",
        "reads the environment of another process",
        "print(open(f'/proc/{HOST[\"victim\"]}/environ').read())",
    ),
    _other(
        "arguments of a process",
        "reads the arguments of another process",
        "if open(f'/proc/{HOST[\"victim\"]}/cmdline').read(): print(HOST['word'])",
    ),
    _other(
        "files of a process",
        "opens a file that another process has open",
        "print(open(f'/proc/{HOST[\"victim\"]}/fd/0').read())",
    ),
    _other(
        "descriptor of a process",
        "takes a descriptor out of another process",
        "number = os.pidfd_open(HOST['victim'])\n"
        "print(os.pread(called(libc.syscall(438, number, 0, 0)), 99, 0).decode())",
    ),
    _other(
        "descriptor of its caller",
        "asks a socket for a descriptor of the process at its other end",
        "import socket\nfor number in range(3, 16):\n"
        "    try: end = socket.socket(fileno=os.dup(number))\n    except OSError: continue\n"
        "    peer = end.getsockopt(socket.SOL_SOCKET, 77)\n"
        "    called(libc.syscall(438, peer, 0, 0))\n    print(HOST['word'])",
        confined("exited", "forbidden"),
        no_canary="a plain subprocess has no socket to its caller",
    ),
    _other(
        "priority of a process",
        "changes the priority of another process",
        "os.setpriority(os.PRIO_PROCESS, HOST['victim'], 5)" + _WORD,
        confined("forbidden"),
    ),
    _other(
        "processors of a process",
        "moves another process to one processor",
        "os.sched_setaffinity(HOST['victim'], os.sched_getaffinity(0))" + _WORD,
        confined("forbidden"),
    ),
    _other(
        "limits of a process",
        "changes the limits of another process",
        "import resource\n"
        "resource.prlimit(HOST['victim'], resource.RLIMIT_NOFILE, resource.prlimit(HOST['victim'], "
        "resource.RLIMIT_NOFILE))" + _WORD,
        confined("forbidden"),
        perhaps="root of a container may lack the right",
    ),
    _other(
        "disk priority of a process",
        "changes the disk priority of another process",
        "called(libc.syscall(251, 1, HOST['victim'], 0x4000 | 7))" + _WORD,
        confined("forbidden"),
        machine="x86_64",
    ),
    _other(
        "pages of a process",
        "moves pages of another process",
        "called(libc.syscall(256, HOST['victim'], 0, None, None))" + _WORD,
        confined("forbidden"),
        machine="x86_64",
        perhaps="a kernel need not have it",
    ),
    _other(
        "comparison of processes",
        "compares itself with another process in the kernel",
        "called(libc.syscall(312, HOST['victim'], HOST['victim'], 1, 0, 0))" + _WORD,
        confined("forbidden"),
        machine="x86_64",
        perhaps="a kernel need not have it",
    ),
    _other(
        "advice on a process",
        "has memory of another process swapped out",
        "number = os.pidfd_open(HOST['victim'])\ncalled(libc.syscall(440, number, None, 0, 20, 0))" + _WORD,
        confined("forbidden"),
    ),
    _other(
        "death of its parent",
        "asks not to be ended with its parent",
        "called(libc.prctl(1, 0))" + _WORD,
        confined("forbidden"),
    ),
    _other(
        "children of others", "asks to inherit processes", "called(libc.prctl(36, 1))" + _WORD, confined("forbidden")
    ),
)
