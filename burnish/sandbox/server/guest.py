"""Process of an untrusted program: gives up everything that it does not need, then runs the program.

`enter` is called in a fresh fork, and never returns. The order matters: descriptors, limits, capabilities, Landlock,
and the filter of system calls last, since it forbids what the others need.
"""

from __future__ import annotations

import _sitebuiltins
import atexit
import builtins
import io
import os
import random
import resource
import signal
import socket
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from burnish.sandbox.server import candidate, landlock, linux, root, seccomp, session, tester
from burnish.sandbox.server.exchange import ClosedError, receive, send
from burnish.sandbox.server.place import Place

CONTROL = 3
"""Descriptor of the channel to the caller, beside those of standard input and output."""
_PROC, _HIGH = 64, 100
"""Descriptors while a process is being confined."""
_STACK = 16 << 20


def enter(job: Mapping[str, Any], descriptors: list[int], home: str, place: Place) -> NoReturn:
    """Confines this process and runs what the job says; ends the process.

    Args:
        job: the request, see `main`, with ``isolated``, ``landlock`` and ``seccomp``: what confines it.
        descriptors: standard input, output and error, and the channel to the caller.
        home: folder of the program.
        place: what all programs of the server have in common.
    """
    code = 1
    try:
        _take(descriptors, place.proc)
        control = socket.socket(fileno=CONTROL)
        try:
            _confine(job, home, place)
        except OSError as error:
            send(control, {"failed": f"the program could not be confined: {error}"})
            os._exit(code)
        send(control, {"confined": True})
        code = _run(job, control)
    except ClosedError:
        code = 0  # the caller needs it no longer
    except BaseException:  # noqa: BLE001 (nothing may return into the server's code)
        traceback.print_exc()
    finally:
        os._exit(code)


def _take(descriptors: list[int], proc: int) -> None:
    """Keeps the descriptors as 0, 1, 2, … and closes all others but that of /proc, which is moved to `_PROC`."""
    kept = [*descriptors, *([proc] if proc >= 0 else [])]
    high = [os.dup2(descriptor, _HIGH + place) for place, descriptor in enumerate(kept)]
    if proc >= 0:
        os.dup2(high.pop(), _PROC)
    for place, descriptor in enumerate(high):
        os.dup2(descriptor, place)
    os.closerange(len(descriptors), _PROC)
    os.closerange(_PROC + 1, 1 << 16)


def _confine(job: Mapping[str, Any], home: str, place: Place) -> None:
    os.setsid()
    os.umask(0o077)
    if job["isolated"]:
        linux.map_user(place.user, place.group, _PROC)
        os.close(_PROC)
        root.mount_home(job["limits"]["file"])
    os.chdir(home)
    os.environ.clear()
    os.environ.update({"HOME": home, "TMPDIR": home, "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"})
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    if sys.platform == "linux":
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _limit(job["limits"], users_own=job["isolated"])
    if job["isolated"]:
        linux.drop_capabilities()
    if job["landlock"]:
        landlock.restrict(place.readable, (home, *place.devices))
    if job["seccomp"]:
        several = job["limits"]["processes"] > 1
        seccomp.install(place.filters[several] or seccomp.build(own_pid=os.getpid(), processes=several))


def _limit(limits: Mapping[str, int], *, users_own: bool) -> None:
    """Sets limits of resources. Threads are counted per user, so they are limited where the user is its own."""
    memory = limits["memory"]
    wanted = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_CPU: limits["cpu"],
        resource.RLIMIT_FSIZE: limits["file"],
        resource.RLIMIT_NOFILE: limits["open_files"],
        resource.RLIMIT_CORE: 1,  # 0 would not keep the kernel from starting a program that collects cores
        resource.RLIMIT_STACK: min(_STACK, memory),
        resource.RLIMIT_MEMLOCK: 0,
    }
    if users_own:
        wanted[resource.RLIMIT_NPROC] = limits["threads"] + limits["processes"] - 1
    for name in ("RLIMIT_MSGQUEUE", "RLIMIT_SIGPENDING", "RLIMIT_NICE", "RLIMIT_RTPRIO"):
        if hasattr(resource, name):
            wanted[getattr(resource, name)] = 64 if name == "RLIMIT_SIGPENDING" else 0
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(kind, (limit, limit))
        except (ValueError, OSError):  # macOS does not limit the address space
            if sys.platform == "linux":
                raise


def _run(job: Mapping[str, Any], control: socket.socket) -> int:
    """Runs the program; returns its exit status."""
    _fresh_state()
    output = job["limits"]["output"]
    if job["mode"] == "command":
        command = receive(control)["command"]
        control.close()
        os.execve("/bin/sh", ["sh", "-c", command], dict(os.environ))
    if job["mode"] == "script":
        return _script(receive(control)["program"], control)
    if job["mode"] == "candidate":
        candidate.serve(control, output)
    elif job["mode"] == "tester":
        tester.serve(control)
    else:
        session.serve(control, output)
    return 0


def _fresh_state() -> None:
    """Undoes what a fork inherits from the server: handlers, streams, modules of the package, random state."""
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), encoding="utf-8", errors="surrogateescape")
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(1, "w", closefd=False)), encoding="utf-8", errors="surrogateescape"
    )
    sys.stderr = io.TextIOWrapper(
        io.FileIO(2, "w", closefd=False), encoding="utf-8", errors="backslashreplace", write_through=True
    )
    vars(sys).update(__stdin__=sys.stdin, __stdout__=sys.stdout, __stderr__=sys.stderr)
    sys.argv = ["main.py"]
    # The module site, which is not loaded, would have made these.
    builtins.exit = _sitebuiltins.Quitter("exit", "Ctrl-D")
    builtins.quit = _sitebuiltins.Quitter("quit", "Ctrl-D")
    builtins.help = _sitebuiltins._Helper()
    for name in [name for name in sys.modules if name.partition(".")[0] == "burnish"]:
        del sys.modules[name]
    random.seed(0)


def _script(program: str, control: socket.socket) -> int:
    """Runs a program as the main module, as ``python main.py`` does; returns its exit status."""
    control.close()
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    try:
        code = compile(program, "main.py", "exec", dont_inherit=True)
    except ValueError as error:  # a null character
        print(f"SyntaxError: {error}", file=sys.stderr)
        return 1
    except (SyntaxError, RecursionError, MemoryError) as error:
        traceback.print_exception(type(error), error, None)
        return 1
    status = _status_of(lambda: exec(code, module.__dict__))
    waiting = [sys.modules["threading"]._shutdown] if "threading" in sys.modules else []
    for finish in (*waiting, atexit._run_exitfuncs):
        status = _status_of(finish) or status
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        status = status or 1
    return status & 0xFF


def _status_of(action: Callable[[], object]) -> int:
    """Exit status of an interpreter that does this; prints the traceback of what it raises."""
    try:
        action()
    except SystemExit as request:
        if isinstance(request.code, int) or request.code is None:
            return request.code or 0
        print(request.code, file=sys.stderr)
        return 1
    except BaseException as error:  # noqa: BLE001 (a program may raise anything)
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        traceback.print_exception(type(error), error, trace)
        return 1
    return 0
