"""Fork server: a process with all imports, whose forked children run recipes and can be killed at the k-th Python call.

Reads one job per line, ``{"arguments": [...], "kill_at": k or null, "limits": {...}, "signals": {...}}``, and answers
with one line, ``{"status": exit status or -signal, "calls": Python calls made, "output": standard error}``. Limits are
names of the ``resource`` module; signals are sent by the child to itself, at a call of the function that they name.
Forking saves the seconds of importing torch.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
import traceback
from collections import Counter
from types import FrameType
from typing import Any

import bitsandbytes  # noqa: F401 (imported by peft later, and slow)
import torch

import burnish.cli.main
import burnish.stages.run
from burnish.stages.registry import BUILTIN

for _entry in BUILTIN.values():
    _entry.kind()  # imports it


def child(job: dict[str, Any], report: int, output: int) -> None:
    """Runs the command; never returns."""
    calls = 0
    seen = Counter[str]()

    def count(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        if event != "call":
            return
        calls += 1
        if calls == job["kill_at"]:
            os.kill(os.getpid(), signal.SIGKILL)
        if (name := frame.f_code.co_qualname) in job["signals"]:
            seen[name] += 1
            if seen[name] in job["signals"][name]:
                os.kill(os.getpid(), signal.SIGINT)

    os.dup2(output, 1)
    os.dup2(output, 2)
    torch.set_num_threads(1)
    for name, limit in job["limits"].items():
        resource.setrlimit(getattr(resource, name), (limit, limit))
    sys.setprofile(count)
    try:
        status = burnish.cli.main._status(job["arguments"])
    except BaseException:  # noqa: BLE001 (whatever it is, the test shall see it)
        traceback.print_exc()
        status = 70
    finally:
        sys.setprofile(None)
    os.write(report, str(calls).encode())
    os._exit(status)


def run(job: dict[str, Any]) -> dict[str, int | str]:
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as output:
        pid = os.fork()
        if pid == 0:
            child(job, writing, output.fileno())
        os.close(writing)
        with os.fdopen(reading) as pipe:
            calls = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        output.seek(0)
        return {"status": status, "calls": int(calls or 0), "output": output.read().decode()}


for line in sys.stdin:
    print(json.dumps(run(json.loads(line))), flush=True)
