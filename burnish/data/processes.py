"""Processes that make samples beside this one: how they are started, and that they end.

Under `cache`, which gives them their work; `worker` is what they run. They meet the others only in files, so they need
nothing of the caller's main module.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, eq=False, slots=True)
class Process:
    """A process at work. It ends by itself when it is done, and when the one that started it is gone."""

    popen: subprocess.Popen[bytes]

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


def start_beside(arguments: Sequence[str], *, nice: int = 0) -> Process:
    """Starts a worker with these arguments.

    Args:
        nice: how far its priority is below this process's, 0 to 19.
    """
    # -P: what lies in the current folder is no module of ours. What this process can import, a worker can.
    command = [sys.executable, "-P", "-m", "burnish.data.worker", str(nice), *arguments]
    importable = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    # One thread each: the processes are as many as the cores.
    environment = {**os.environ, "PYTHONPATH": importable, "TOKENIZERS_PARALLELISM": "false"}
    # A group of its own: Ctrl+C is for the one that started it, whose end ends the worker. (Not a session of its own:
    # Linux shares processor time between sessions first, and would not look at the priority.)
    return Process(
        subprocess.Popen(command, env=environment, process_group=0, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    )
