"""Attacks on files outside: reads, writes, links, and what the kernel tells about others."""

from __future__ import annotations

from tests.sandbox.attacks.record import CALLS, Attack, Expected, confined, everywhere, isolated, script

_READ = confined("exited", "forbidden")


def _read(name: str, tries: str, program: str, expected: Expected = _READ, **more: object) -> Attack:
    return script(name, "reads", tries, program, expected, **more)  # type: ignore[arg-type]


def _write(name: str, tries: str, program: str, expected: Expected = _READ, **more: object) -> Attack:
    return script(name, "writes", tries, program, expected, **more)  # type: ignore[arg-type]


READS = (
    _read("file outside", "reads a file that every user may read", "print(open(HOST['secret']).read())"),
    _read(
        "file by a symbolic link",
        "reads a file through a link of its own",
        "import os\nos.symlink(HOST['secret'], 'x')\nprint(open('x').read())",
    ),
    _read(
        "file by a hard link",
        "gives a file a second name in its folder",
        "import os\nos.link(HOST['secret'], 'x')\nprint(open('x').read())",
        by_root=True,
    ),
    _read(
        "file by /proc/self/root",
        "reads a file through /proc",
        "print(open('/proc/self/root' + HOST['secret']).read())",
    ),
    _read(
        "file by a descriptor",
        "opens the root folder, and a file in it",
        "import os\nroot = os.open('/', os.O_PATH)\n"
        "print(os.read(os.open(HOST['secret'][1:], os.O_RDONLY, dir_fd=root), 99).decode())",
    ),
    _read(
        "file by parents", "goes up from its folder", "import os\nprint(open('../' * 20 + HOST['secret'][1:]).read())"
    ),
    _read(
        "file by working folder",
        "changes into a folder outside",
        "import os\nos.chdir(HOST['folder'])\nprint(open('secret').read())",
    ),
    _read(
        "file as a module",
        "imports a file outside",
        "import sys\nsys.path.insert(0, HOST['folder'])\nimport planted\nprint(planted.value)",
    ),
    _read(
        "file by a map",
        "maps a file outside",
        "import mmap, os\n"
        "print(bytes(mmap.mmap(os.open(HOST['secret'], os.O_RDONLY), 8, "
        "access=mmap.ACCESS_READ)[:]).decode(), open(HOST['secret']).read())",
    ),
    _read(
        "file by openat2",
        "opens a file by a newer call",
        CALLS + "block = (ctypes.c_uint64 * 3)()\n"
        "print(os.read(called(libc.syscall(437, -100, HOST['secret'].encode(), block, 24)), 99).decode())",
    ),
    _read(
        "file by a program",
        "reads a file by a program of the system",
        "import subprocess\nprint(subprocess.run(['/bin/cat', HOST['secret']], capture_output=True, text=True).stdout)",
    ),
    _read(
        "file by a handle",
        "opens a file by its handle",
        CALLS + "block = ctypes.create_string_buffer(b'\\x80\\0\\0\\0' + bytes(132))\n"
        "number = ctypes.c_int()\n"
        "called(libc.name_to_handle_at(-100, HOST['secret'].encode(), block, ctypes.byref(number), 0))\n"
        "print(HOST['word'])",
    ),
    _read("users of the system", "reads /etc/passwd", "if 'root:' in open('/etc/passwd').read(): print(HOST['word'])"),
    _read(
        "passwords",
        "reads /etc/shadow",
        "if open('/etc/shadow').read(): print(HOST['word'])",
        everywhere("exited"),
        by_root=True,
    ),
    _read(
        "home of the caller",
        "lists the home of the caller",
        "import os\nif set(HOST['names']) & set(os.listdir(HOST['home'])): print(HOST['word'])",
    ),
    _read(
        "tests of the project",
        "reads files of the project",
        "if 'attack' in open(HOST['project']).read(): print(HOST['word'])",
    ),
    _read(
        "names of files",
        "lists a folder outside",
        "import os\nif 'secret' in os.listdir(HOST['folder']): print(HOST['word'])",
    ),
    _read(
        "size of a file",
        "asks for the size of a file outside",
        "import os\nos.stat(HOST['secret'])\nprint(HOST['word'])",
        isolated("exited"),
    ),
    _read(
        "target of a link",
        "reads where a link outside leads",
        "import os\nif os.readlink(HOST['folder'] + '/link'): print(HOST['word'])",
        isolated("exited"),
    ),
    _read(
        "watched folder",
        "watches a folder outside",
        CALLS + "called(libc.inotify_add_watch(called(libc.inotify_init()), HOST['folder'].encode(), 0xFFF))\n"
        "print(HOST['word'])",
        confined("forbidden"),
    ),
    _read(
        "lease",
        "takes a lease on a file, which makes others wait for it",
        "import fcntl, os\nfcntl.fcntl(os.open('/bin/true', os.O_RDONLY), 1024, fcntl.F_RDLCK)\nprint(HOST['word'])",
        confined("forbidden"),
        by_root=True,
    ),
    _read(
        "kernel messages",
        "reads /dev/kmsg",
        "import os\nif os.read(os.open('/dev/kmsg', os.O_RDONLY | os.O_NONBLOCK), 4096): print(HOST['word'])",
        by_root=True,
    ),
    _read("kernel information", "lists /sys", "import os\nif os.listdir('/sys'): print(HOST['word'])"),
    _read("mounts", "reads the mounts of the system", "if open('/proc/self/mountinfo').read(): print(HOST['word'])"),
    _read(
        "disk",
        "reads the disk",
        "import os\nfor name in os.listdir('/dev'):\n"
        "    if name[:2] in ('vd', 'sd', 'nv') and os.read(os.open('/dev/' + name, os.O_RDONLY), 512): "
        "print(HOST['word'])",
        everywhere("exited"),
        perhaps="a machine need not have a disk under /dev",
    ),
    _read(
        "terminal",
        "opens a new terminal, into which it could type",
        "import os\nos.open('/dev/ptmx', os.O_RDWR)\nprint(HOST['word'])",
    ),
    _read(
        "environment",
        "reads the environment of the caller",
        "import os\nprint(os.environ.get('BURNISH_SECRET'))",
        everywhere("exited"),
    ),
    _read(
        "environment by /proc",
        "reads the environment of its own process, as it was at the start",
        "print(open('/proc/self/environ').read())",
        everywhere("exited"),
    ),
    _read(
        "environment of the caller by /proc",
        "reads the environment of its parent",
        "import os\nif 'PATH=' in open(f'/proc/{os.getppid()}/environ').read(): print(HOST['word'])",
    ),
    _read(
        "processes of the system",
        "lists the processes of the system",
        "import os\n"
        "if any(open(f'/proc/{name}/cmdline').read() for name in os.listdir('/proc') if name == "
        "str(HOST['caller'])): print(HOST['word'])",
    ),
    _read(
        "open files",
        "reads from descriptors that it did not open",
        "import os\nfor number in range(3, 256):\n    try: print(os.read(number, 99).decode())\n"
        "    except OSError: pass",
        everywhere("exited"),
        no_canary="a plain subprocess closes them too",
    ),
)
WRITES = (
    _write("file that all may write", "writes a file outside", "open(HOST['target'], 'w').write('x')"),
    _write("end of a file", "adds to a file outside", "open(HOST['target'], 'a').write('x')"),
    _write("new file", "makes a file in a folder outside", "import os\nopen(HOST['open'] + '/new', 'w').close()"),
    _write("new folder", "makes a folder in a folder outside", "import os\nos.mkdir(HOST['open'] + '/new')"),
    _write("new link", "makes a link in a folder outside", "import os\nos.symlink('/', HOST['open'] + '/new')"),
    _write("new queue", "makes a named pipe in a folder outside", "import os\nos.mkfifo(HOST['open'] + '/new')"),
    _write("truncation by path", "empties a file outside by truncate", "import os\nos.truncate(HOST['target'], 0)"),
    _write(
        "truncation by opening",
        "empties a file outside while it opens it for reading",
        "import os\nos.open(HOST['target'], os.O_RDONLY | os.O_TRUNC)",
    ),
    _write("removal", "removes a file in a folder outside", "import os\nos.unlink(HOST['open'] + '/old')"),
    _write(
        "renaming",
        "renames a file in a folder outside",
        "import os\nos.rename(HOST['open'] + '/old', HOST['open'] + '/new')",
    ),
    _write(
        "moving in",
        "moves a file from outside into its folder",
        "import os, shutil\nshutil.move(HOST['open'] + '/old', 'x')",
    ),
    _write(
        "moving out",
        "moves a file of its own into a folder outside",
        "import os\nopen('x', 'w').close()\nos.rename('x', HOST['open'] + '/new')",
    ),
    _write(
        "hard link out",
        "gives a file of its own a name outside",
        "import os\nopen('x', 'w').close()\nos.link('x', HOST['open'] + '/new')",
    ),
    _write(
        "symbolic link",
        "writes through a link of its own",
        "import os\nos.symlink(HOST['target'], 'x')\nopen('x', 'w').write('x')",
    ),
    _write(
        "race of links",
        "swaps a file for a link while a thread writes it",
        "import os, threading, time\nopen('a', 'w').close()\nos.symlink(HOST['target'], 'b')\n"
        "end = time.monotonic() + 0.2\ndef swap():\n    while time.monotonic() < end:\n"
        "        os.rename('a', 'c'); os.rename('b', 'a'); os.rename('a', 'b'); os.rename('c', 'a')\n"
        "thread = threading.Thread(target=swap)\nthread.start()\nwhile time.monotonic() < end:\n"
        "    try:\n        with open('a', 'w') as file: file.write('x')\n"
        "    except OSError: pass\nthread.join()",
    ),
    _write(
        "modes",
        "changes the mode of its root folder",
        "import os\nos.chmod('/', 0o755)\nprint(HOST['word'])",
        everywhere("exited", "forbidden"),
        by_root=True,
    ),
    _write(
        "libraries",
        "writes beside the standard library",
        "import os, sysconfig\npath = sysconfig.get_path('stdlib') + '/burnish_left'\n"
        "open(path, 'w').close()\nos.unlink(path)\nprint(HOST['word'])",
        everywhere("exited"),
        by_root=True,
    ),
    _write(
        "compiled modules",
        "writes a compiled module of the standard library",
        "import os, sysconfig\n"
        "path = sysconfig.get_path('stdlib') + '/__pycache__/burnish_left.pyc'\n"
        "open(path, 'wb').close()\nos.unlink(path)\nprint(HOST['word'])",
        everywhere("exited"),
        by_root=True,
    ),
    _write(
        "kernel settings",
        "writes a setting of the kernel",
        "open('/proc/sys/kernel/domainname', 'w').write(open('/proc/sys/kernel/domainname').read())\n"
        "print(HOST['word'])",
        everywhere("exited"),
        by_root=True,
    ),
    _write(
        "kernel log",
        "writes into the log of the kernel",
        "open('/dev/kmsg', 'w').close()\nprint(HOST['word'])",
        everywhere("exited"),
        by_root=True,
    ),
)
FILES = (*READS, *WRITES)
