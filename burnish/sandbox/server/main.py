"""Fork server: ``main(arguments)`` in an interpreter of its own. Started by `sandbox.local`.

Its standard input is a socket. The first line out says that it is ready, or why not. Each request is a block of
`REQUEST` bytes, a JSON object, that comes with descriptors: the report, then those of the program (`guest.enter`).

    {"mode": "script" | "candidate" | "tester" | "session" | "command",
     "limits": {"memory", "cpu", "cpu_soft", "wall", "file", "output", "processes", "threads", "open_files"}}
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

from burnish.sandbox.server import landlock, linux, root, seccomp
from burnish.sandbox.server.place import Place
from burnish.sandbox.server.supervisor import Supervisor

REQUEST = 1024
NOBODY = 65534
_PRELOADED = """
    abc array bisect cmath collections collections.abc contextlib copy datetime decimal encodings.ascii
    encodings.idna encodings.latin_1 enum fractions functools heapq io itertools json math operator random re string
    time traceback types typing
"""
"""Modules that programs import often: loaded once, shared by all. More of them make every fork slower."""


def main(arguments: str) -> None:
    """Prepares the level, then serves until the caller closes the socket.

    Args:
        arguments: JSON: ``level`` (1 to 3), ``packages`` (folders), ``namespaces`` (whether this process is root of a
            user namespace that was made for it).
    """
    options = json.loads(arguments)
    caller = socket.socket(fileno=os.dup(0))
    os.set_inheritable(caller.fileno(), False)
    try:
        place, features = _prepare(options)
    except OSError as error:
        caller.sendall(json.dumps({"failed": f"{error}"}).encode() + b"\n")
        return
    supervisor = Supervisor(place, features)
    caller.sendall(json.dumps({"ready": features, "folder": supervisor.folder}).encode() + b"\n")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    while not supervisor.wait(caller.fileno()) or _serve(caller, supervisor):
        pass
    supervisor.close()


def _serve(caller: socket.socket, supervisor: Supervisor) -> bool:
    """Starts what a request wants; False: there are no more requests."""
    block, descriptors = _request(caller)
    if not block:
        return False
    report, *own = descriptors
    supervisor.start(json.loads(block), socket.socket(fileno=report), own)
    for descriptor in own:
        os.close(descriptor)
    return True


def _request(caller: socket.socket) -> tuple[bytes, list[int]]:
    block, descriptors = b"", []
    while len(block) < REQUEST:
        part, received, _, _ = socket.recv_fds(caller, REQUEST - len(block), 8)
        if not part:
            return b"", []
        block += part
        descriptors += received
    return block, descriptors


def _prepare(options: dict[str, Any]) -> tuple[Place, dict[str, bool]]:
    """Loads modules, gives up root, and enters the namespaces of the server."""
    sys.path += [path for path in options["packages"] if path not in sys.path]
    for name in _PRELOADED.split():
        importlib.import_module(name)
    packages = tuple(options["packages"])
    isolated = options["level"] >= 3
    proc = -1
    if isolated:
        proc = os.open("/proc", os.O_PATH | os.O_CLOEXEC)
        _isolate(packages, proc, made=options["namespaces"])
    else:
        _become_nobody(packages)
    confined = options["level"] >= 2
    features = {
        "isolated": isolated,
        "landlock": confined and landlock.version() > 0,
        "seccomp": confined and seccomp.supported(),
    }
    filters = (b"", b"")
    if isolated and features["seccomp"]:  # a program is number 1 of its process table
        filters = (seccomp.build(own_pid=1, processes=False), seccomp.build(own_pid=1, processes=True))
    # Inside of the root, Landlock grants what the root has.
    readable = ("/",) if isolated else root.readable_paths(packages)
    user, group = os.geteuid(), os.getegid()
    return Place(isolated, user, group, proc, readable, root.writable_devices(), filters), features


def _become_nobody(packages: Sequence[str] | None = None) -> None:
    """Root gives itself up: its processes would not be limited, and files of root would be its own.

    Args:
        packages: folders of packages that must stay readable; None: it is in a root that was made for it.

    Raises:
        OSError: the user nobody may not read the interpreter.
    """
    if os.geteuid() != 0:
        return
    if packages is not None and sys.platform == "linux":
        with contextlib.suppress(PermissionError):  # root of a container, without the capabilities
            linux.unshare(linux.NEWNS)
            root.make_reachable(packages)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    if sys.platform == "linux":
        linux.prctl(linux.PR_SET_DUMPABLE, 1)  # its files in /proc belong to it again
    if packages is not None and (path := root.unreadable(packages)) is not None:
        raise PermissionError(f"root becomes the user nobody ({NOBODY}) for programs, who may not read {path}")


def _isolate(packages: Sequence[str], proc: int, *, made: bool) -> None:
    """Enters namespaces and the root of the sandbox, as nobody.

    Root enters them as root, since the interpreter may lie where nobody may not look; a user in a user namespace.
    """
    others = linux.NEWNS | linux.NEWNET | linux.NEWIPC | linux.NEWUTS
    user, group = os.geteuid(), os.getegid()
    if user == 0 and not made:
        try:
            linux.unshare(others)
        except PermissionError:  # root of a container, without the capabilities
            _become_nobody()
            user, group = NOBODY, NOBODY
    if user != 0 and not made:
        linux.unshare(others | linux.NEWUSER)
        linux.map_user(user, group, proc)
    elif made:
        linux.unshare(others)
    socket.sethostname("sandbox")
    root.enter(packages)
    _become_nobody()
