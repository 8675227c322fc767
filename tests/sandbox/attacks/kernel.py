"""Attacks on the kernel's rules: namespaces, mounts, limits, rare calls, calls of other kinds of machines."""

from __future__ import annotations

from tests.sandbox.attacks.record import CALLS, Attack, Expected, confined, everywhere, script

_FATAL = confined("forbidden")
_WORD = "\nprint(HOST['word'])"
_CODE = """\
import mmap
def run(code):
    block = mmap.mmap(-1, 4096, prot=7)
    block.write(code)
    return ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(block)))()
"""


def _call(name: str, tries: str, program: str, expected: Expected = _FATAL, **more: object) -> Attack:
    return script(name, "kernel", tries, CALLS + program, expected, **more)  # type: ignore[arg-type]


KERNEL = (
    _call(
        "mount",
        "mounts a file system over its folder",
        "called(libc.mount(b'x', b'.', b'tmpfs', 0, None))\nlibc.umount2(os.getcwd().encode(), 2)" + _WORD,
        by_root=True,
    ),
    _call(
        "unmount",
        "unmounts its folder",
        "called(libc.umount2(os.getcwd().encode(), 2))" + _WORD,
        no_canary="its folder is no mount without a sandbox",
    ),
    _call(
        "remount",
        "makes the root writable",
        "called(libc.mount(None, b'/', None, 32 | 4096, None))" + _WORD,
        no_canary="it would change the machine",
    ),
    _call(
        "new mounts",
        "opens a file system by the newer calls",
        "called(libc.syscall(430, b'tmpfs', 0))" + _WORD,
        by_root=True,
    ),
    _call(
        "copied mounts",
        "copies the mounts of the root",
        "called(libc.syscall(428, -100, b'/', 1))" + _WORD,
        by_root=True,
    ),
    _call("chroot", "changes its root folder", "os.chroot('.')" + _WORD, by_root=True),
    _call(
        "pivot_root",
        "changes the root of its mounts",
        "called(libc.syscall(155, b'.', b'.'))" + _WORD,
        no_canary="it would change the machine",
        machine="x86_64",
    ),
    _call(
        "user namespace",
        "makes a user namespace, in which it would be root",
        "called(libc.unshare(0x10000000))" + _WORD,
    ),
    _call(
        "user namespace by clone",
        "makes a process in a user namespace",
        "if called(libc.syscall(56, 0x10000011, 0, 0, 0, 0)) == 0: os._exit(0)" + _WORD,
        machine="x86_64",
    ),
    _call(
        "other namespace",
        "enters a namespace of another process",
        "called(libc.setns(os.open('/proc/self/ns/uts', os.O_RDONLY), 0))" + _WORD,
        confined("exited", "forbidden"),
        by_root=True,
    ),
    _call(
        "namespace by a process",
        "enters the namespaces of another process",
        "called(libc.setns(0, 0x20000))" + _WORD,
        no_canary="it would need a process in other namespaces",
    ),
    _call(
        "name of the machine",
        "changes the name of the machine",
        "name = os.uname().nodename.encode()\ncalled(libc.sethostname(name, len(name)))" + _WORD,
        by_root=True,
    ),
    _call(
        "clock",
        "sets the clock",
        "import time\ntime.clock_settime(time.CLOCK_REALTIME, time.time())" + _WORD,
        no_canary="it would set the clock of the machine",
    ),
    _call(
        "rate of the clock",
        "reads the corrections of the clock, by the call that also sets them",
        "called(libc.adjtimex((ctypes.c_long * 64)()))" + _WORD,
    ),
    _call("user", "becomes root", "os.setuid(0)" + _WORD, everywhere("forbidden"), by_root=True),
    _call("groups", "changes its groups", "os.setgroups([0])" + _WORD, everywhere("forbidden"), by_root=True),
    _call(
        "capabilities",
        "takes capabilities",
        "block = (ctypes.c_uint32 * 6)(0xFFFFFFFF, 0xFFFFFFFF)\n"
        "called(libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), block))" + _WORD,
        everywhere("forbidden"),
        no_canary="it would change nothing for root",
    ),
    _call(
        "program of another user",
        "starts a program that runs as root",
        "import subprocess\n"
        "print(HOST['word'] if subprocess.run(['/usr/bin/su', '-c', 'true'], stdin=subprocess.DEVNULL, "
        "stderr=subprocess.DEVNULL).returncode == 0 else '')",
        confined("forbidden"),
        by_root=True,
    ),
    _call(
        "BPF",
        "makes a map of BPF",
        "called(libc.syscall(321, 0, (ctypes.c_uint32 * 32)(2, 4, 4, 1), 72))" + _WORD,
        machine="x86_64",
        by_root=True,
    ),
    _call(
        "performance events",
        "opens a counter of the processor",
        "block = (ctypes.c_uint32 * 32)(1, 128)\ncalled(libc.syscall(298, block, 0, -1, -1, 0))" + _WORD,
        machine="x86_64",
        by_root=True,
    ),
    _call(
        "page faults",
        "asks for the page faults of its memory",
        "called(libc.syscall(323, 1))" + _WORD,
        machine="x86_64",
        perhaps="a kernel need not have it",
    ),
    _call(
        "io_uring",
        "opens a ring for calls that no filter sees",
        "called(libc.syscall(425, 4, (ctypes.c_uint32 * 30)()))" + _WORD,
        perhaps="a kernel need not have it",
    ),
    _call(
        "keyring",
        "reads the number of its keyring",
        "called(libc.syscall(250, 0, -3, 1))" + _WORD,
        machine="x86_64",
        perhaps="a kernel need not have it",
    ),
    _call(
        "modules",
        "loads a module of the kernel",
        "called(libc.syscall(313, -1, b'', 0))" + _WORD,
        machine="x86_64",
        no_canary="it would change the machine",
    ),
    _call(
        "restart",
        "restarts the machine",
        "called(libc.syscall(169, 0, 0, 0, None))" + _WORD,
        machine="x86_64",
        no_canary="it would restart the machine",
    ),
    _call("swap", "adds swap", "called(libc.swapon(b'x', 0))" + _WORD, no_canary="it would change the machine"),
    _call(
        "ports",
        "asks for input and output ports",
        "called(libc.iopl(0))" + _WORD,
        machine="x86_64",
        perhaps="a kernel need not have it",
    ),
    _call("personality", "switches random addresses off", "called(libc.personality(0x0040000))" + _WORD),
    _call(
        "file in memory", "makes a file in memory, from which it could start a program", "os.memfd_create('x')" + _WORD
    ),
    _call(
        "secret memory",
        "makes memory that the kernel cannot read",
        "called(libc.syscall(447, 0))" + _WORD,
        perhaps="a kernel need not have it",
    ),
    _call(
        "segments",
        "changes the segments of its memory",
        "called(libc.syscall(154, 0, ctypes.create_string_buffer(64), 64))" + _WORD,
        machine="x86_64",
        perhaps="a kernel need not have it",
    ),
    _call("locked memory", "locks memory", "called(libc.mlock(ctypes.create_string_buffer(4096), 4096))" + _WORD),
    _call(
        "limits raised",
        "raises its limits",
        "import resource\n"
        "for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_AS, resource.RLIMIT_FSIZE):\n"
        "    resource.setrlimit(kind, (1 << 19, 1 << 19) if kind == resource.RLIMIT_NOFILE else (-1, -1))" + _WORD,
        everywhere("exited", "forbidden"),
        by_root=True,
        perhaps="root of a container may lack the right",
    ),
    _call(
        "core",
        "leaves its memory in a file when it crashes",
        "import resource\nlimit = resource.getrlimit(resource.RLIMIT_CORE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))\nos.abort()",
        everywhere("killed"),
        after="import os\nif any(name.startswith('core') for name in os.listdir()): print(HOST['word'])",
        perhaps="a machine may keep cores elsewhere",
    ),
    _call(
        "x32",
        "makes a call of the x32 kind",
        "called(libc.syscall(0x40000000 | 39))" + _WORD,
        machine="x86_64",
        perhaps="a kernel need not have it",
    ),
    _call(
        "32-bit call",
        "makes a call of a 32-bit machine",
        _CODE + "if run(bytes.fromhex('53b814000000cd805bc3')) > 0: print(HOST['word'])",
        confined("forbidden", "killed"),
        machine="x86_64",
        perhaps="a kernel need not have it",
    ),
    _call(
        "call without the library",
        "forks by machine code of its own",
        _CODE + "if called(run(bytes.fromhex('b8390000000f05c3'))) == 0: os._exit(0)\nos.wait()" + _WORD,
        confined("exited", "forbidden"),
        machine="x86_64",
    ),
    _call(
        "typing",
        "types into its terminal",
        "import fcntl\nfor number in (0, 1, 2):\n    fcntl.ioctl(number, 0x5412, b'x')" + _WORD,
        everywhere("exited", "forbidden"),
        no_canary="a test has no terminal",
    ),
    _call(
        "filter",
        "installs a filter of calls of its own",
        "called(libc.prctl(38, 1, 0, 0, 0))\n"
        "block = ctypes.create_string_buffer(bytes.fromhex('0600000000 00ff7f'.replace(' ', '')))\n"
        "head = (ctypes.c_uint64 * 2)(1, ctypes.addressof(block))\n"
        "called(libc.prctl(22, 2, head, 0, 0))" + _WORD,
    ),
    _call(
        "Landlock",
        "makes a rule of its own",
        "called(libc.syscall(444, None, 0, 1))" + _WORD,
        perhaps="a kernel need not have it",
    ),
    _call(
        "devices",
        "makes a device",
        "os.mknod('x', 0o20666, os.makedev(1, 1))" + _WORD,
        by_root=True,
        expected=everywhere("exited", "forbidden"),
    ),
    _call(
        "program with another user",
        "makes a file that would run as its owner",
        "open('x', 'w').close()\nos.chmod('x', 0o4755)\nif os.stat('x').st_mode & 0o4000: os.execv('./x', ['x'])",
        everywhere("exited", "forbidden"),
        no_canary="only a second user would be harmed",
    ),
    _call(
        "accounts", "switches accounting on", "called(libc.acct(None))" + _WORD, no_canary="it would change the machine"
    ),
    _call(
        "quota",
        "asks for quotas",
        "called(libc.quotactl(0x80000100, None, 0, None))" + _WORD,
        perhaps="a kernel need not have it",
    ),
)
