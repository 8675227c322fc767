"""Background and worker processes that build samples: how they start and end.

Used by `cache`, which assigns their work through its files. Workers are forked, so they start at once with all loaded
modules. A background process during training is a new interpreter, because it runs for long beside threads that train.
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
    """Background process in a new interpreter. It exits when its job is done, or when its parent process is gone."""

    popen: subprocess.Popen[bytes]
    job: Path
    """File of the job; the process deletes it after reading."""

    @property
    def ended(self) -> bool:
        return self.popen.poll() is not None

    def wait(self) -> None:
        """Waits until the process exits."""
        self.popen.wait()

    def stop(self) -> None:
        """Kills the process."""
        self.popen.kill()
        self.popen.wait()
        self.job.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Worker:
    """Forked worker process. It exits when its work is done, or when its parent process is gone."""

    pid: int

    def wait(self) -> None:
        """Waits until the process exits."""
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def stop(self) -> None:
        """Kills the process; does nothing if `wait` has returned."""
        with suppress(ChildProcessError):
            if os.waitpid(self.pid, os.WNOHANG)[0] == 0:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)


def start_background(job: Path, *, nice: int = 0) -> Process:
    """Starts `burnish.data.worker` with a job.

    Args:
        job: file that the process reads and deletes.
        nice: increment of the niceness of the process, 0 to 19.
    """
    # -P: files in the current folder are not our modules. PYTHONPATH: the worker can import all that this process can.
    command = [sys.executable, "-P", "-m", "burnish.data.worker", str(nice), str(os.getpid()), str(job)]
    importable = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    # One thread each: there are as many processes as cores.
    environment = {**os.environ, "PYTHONPATH": importable, _PARALLEL: "false"}
    # A process group of its own: Ctrl+C goes to the parent, whose end ends the worker. (Not a session of its own: Linux
    # shares processor time between sessions first, and would ignore the priority.)
    devnull = subprocess.DEVNULL
    popen = subprocess.Popen(command, env=environment, process_group=0, stdin=devnull, stdout=devnull)
    return Process(popen, job)


def fork(count: int, work: Callable[[], None]) -> list[Worker]:
    """Forks worker processes that run `work`.

    Returns:
        `count` workers, or fewer if forking fails; none outside Linux, where forking a process with threads is unsafe.
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
                _run_in_child(parent, work)
            workers.append(Worker(pid))
    return workers


def end_with(parent: int) -> None:
    """Ends this process when its parent is gone, since a killed parent does not end its children."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run_in_child(parent: int, work: Callable[[], None]) -> NoReturn:
    """Runs the work in a forked process and exits; it never returns into the code of the parent."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C goes to the parent, which then ends this process
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        end_with(parent)
        work()
        status = 0
    except BaseException:  # noqa: BLE001 (the parent does the remaining work, and gets the same error)
        traceback.print_exc()
    finally:
        os._exit(status)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Sets the variable that tokenizers reads at a fork: the threads of its pool do not exist in the child."""
    before = os.environ.get(_PARALLEL)
    os.environ[_PARALLEL] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_PARALLEL]
        else:
            os.environ[_PARALLEL] = before
