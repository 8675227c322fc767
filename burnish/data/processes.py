"""Processes that make samples beside this one: how they are started, and that they end.

Under `cache`, which gives them their work; they meet only in its files. Workers are forked, so they begin at once with
all that is loaded here. A process beside a training is started anew: it lives long, beside threads that train.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

_PARALLEL = "TOKENIZERS_PARALLELISM"


@dataclass(frozen=True, eq=False, slots=True)
class Process:
    """A process that was started anew. It ends by itself when it is done, and when the one that started it is gone."""

    popen: subprocess.Popen[bytes]
    job: Path
    """What it is to do; it deletes the file when it has read it."""

    @property
    def ended(self) -> bool:
        return self.popen.poll() is not None

    def wait(self) -> None:
        """Waits until it has ended by itself."""
        self.popen.wait()

    def stop(self) -> None:
        """Ends it, wherever it is."""
        self.popen.kill()
        self.popen.wait()
        self.job.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Worker:
    """A forked process. It ends by itself when it is done, and when the one that forked it is gone."""

    pid: int

    def wait(self) -> None:
        """Waits until it has ended by itself."""
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def stop(self) -> None:
        """Ends it, wherever it is; nothing happens if it was waited for."""
        with suppress(ChildProcessError):
            if os.waitpid(self.pid, os.WNOHANG)[0] == 0:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)


def start_beside(job: Path, *, nice: int = 0) -> Process:
    """Starts `worker` with a job.

    Args:
        job: a file that it reads, and deletes.
        nice: how far its priority is below this process's, 0 to 19.
    """
    # -P: what lies in the current folder is no module of ours. What this process can import, a worker can.
    command = [sys.executable, "-P", "-m", "burnish.data.worker", str(nice), str(os.getpid()), str(job)]
    importable = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    # One thread each: the processes are as many as the cores.
    environment = {**os.environ, "PYTHONPATH": importable, _PARALLEL: "false"}
    # A group of its own: Ctrl+C is for the one that started it, whose end ends the worker. (Not a session of its own:
    # Linux shares processor time between sessions first, and would not look at the priority.)
    nowhere = subprocess.DEVNULL
    popen = subprocess.Popen(command, env=environment, process_group=0, stdin=nowhere, stdout=nowhere)
    return Process(popen, job)


def fork(count: int, work: Callable[[], None]) -> list[Worker]:
    """Has forked processes do the work beside this one.

    Returns:
        As many workers as were asked for; none where forking a process with threads is not safe (only on Linux it is
        usual), or is not possible.
    """
    workers: list[Worker] = []
    if sys.platform != "linux":
        return workers
    parent = os.getpid()
    with _one_thread_each():
        for _ in range(count):
            try:
                pid = os.fork()
            except OSError:  # no memory, or too many processes: the others do the work
                break
            if pid == 0:
                _work(parent, work)
            workers.append(Worker(pid))
    return workers


def end_with(parent: int) -> None:
    """Lets this process end when its parent has: a killed parent kills nobody, and its work has no taker any more."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _work(parent: int, work: Callable[[], None]) -> NoReturn:
    """What a forked process does; it never returns into what its parent was doing."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the parent, who then ends this process
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        end_with(parent)
        work()
        status = 0
    except BaseException:  # noqa: BLE001 (what it leaves undone, the parent does, and meets the same error)
        traceback.print_exc()
    finally:
        os._exit(status)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """tokenizers looks at this when a process forks: the threads of its pool are not in the new one."""
    before = os.environ.get(_PARALLEL)
    os.environ[_PARALLEL] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_PARALLEL]
        else:
            os.environ[_PARALLEL] = before
