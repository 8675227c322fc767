"""A process with everything imported, whose forked children run recipes and can be killed at the k-th Python call.

Reads one job a line, ``{"arguments": [...], "kill_at": k or null}``, and answers one line,
``{"status": exit status or -signal, "calls": Python calls made}``. Forking spares the seconds of importing torch.
"""

from __future__ import annotations

import json
import os
import signal
import sys

import bitsandbytes  # noqa: F401 (imported by peft later, and slow)
import torch

import burnish.cli
import burnish.recipe.run


def child(arguments: list[str], kill_at: int | None, report: int) -> None:
    """Runs the command; never returns."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        if event == "call":
            calls += 1
            if calls == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    torch.set_num_threads(1)
    sys.setprofile(count)
    try:
        status = burnish.cli._status(arguments)
    finally:
        sys.setprofile(None)
    os.write(report, str(calls).encode())
    os._exit(status)


def run(arguments: list[str], kill_at: int | None) -> dict[str, int]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        child(arguments, kill_at, writing)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        calls = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {"status": status, "calls": int(calls or 0)}


for line in sys.stdin:
    job = json.loads(line)
    print(json.dumps(run(job["arguments"], job["kill_at"])), flush=True)
