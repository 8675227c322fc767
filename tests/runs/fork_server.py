"""Fork server: a process with torch imported that forks one child per job, which may be killed at any moment.

Run by the fixture `fork_server`. Reads one job per line, and writes the actions of its child: ``pid``, ``tick`` before
each operation on a file, ``done X`` for everything that is durable, and ``end STATUS`` when the child has ended.
"""

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import torch
from safetensors.torch import save_file

from burnish.errors import RunError
from burnish.runs.checkpoint import Checkpoint, latest_checkpoint, load_checkpoint, save_checkpoint
from burnish.runs.folder import RunFolder
from burnish.runs.stop import StopSignal

_EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.truncate"}


def say(text):
    os.write(1, f"{text}\n".encode())


def checkpoint(step, size):
    tensors = {
        "zero_dim": torch.tensor(step),
        "halves": torch.full((3, size), step, dtype=torch.bfloat16),
        "many": torch.full((size,), step, dtype=torch.float64),
    }
    return Checkpoint(step, tensors, {"filled": step, "text": str(step) * 50})


def checkpoints(folder, start, count, keep, size=8):
    for step in range(start, start + count):
        save_checkpoint(folder, checkpoint(step, size), keep)
        say(f"done {step}")


def same_step(folder, count):
    for version in range(1, count + 1):
        tensors = {"x": torch.full((4,), version)}
        save_checkpoint(folder, Checkpoint(7, tensors, {"version": version}), 1)
        say(f"done {version}")


def write_model(folder, version):
    (folder / "deep").mkdir()
    (folder / "deep" / "config.json").write_text(str(version))
    save_file({"w": torch.full((4,), version)}, folder / "model.safetensors")


def life(folder, count):
    """All operations of a run on its folder."""
    with RunFolder.open(folder, "recipe", {"seed": 1}) as run:
        for version in range(1, count + 1):
            run.append_metrics([{"step": version}])
            say(f"done {version}")
            run.replace_folder("model", lambda path, version=version: write_model(path, version))
            say(f"model {version}")
        run.mark_finished({"steps": count})
        say("finished")


def hold(folder):
    with RunFolder.open(folder, "recipe", {"seed": 1}):
        say("done")
        signal.pause()


def orphan(folder):
    """A forked worker that outlives the holder must not keep the lock."""
    with RunFolder.open(folder, "recipe", {"seed": 1}):
        ready, started = os.pipe()
        worker = os.fork()
        if worker == 0:
            os.write(started, b".")  # what runs after a fork has run
            signal.pause()
        os.read(ready, 1)
        say(f"done {worker}")
        signal.pause()


def limited(folder, limit):
    save_checkpoint(folder, checkpoint(1, 8), None)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        save_checkpoint(folder, checkpoint(2, 100_000), 1)
    except RunError as error:
        say("done " + json.dumps([error.given, error.rule, error.remedy]))


def refusal(action):
    try:
        action()
    except RunError as error:
        return f"{error.given} {error.rule} {error.remedy}"
    raise AssertionError("nothing was refused")


def mount(folder, *options):
    subprocess.run(["mount", *options, folder], check=True)


def small_disk(folder):
    mount(folder, "-t", "tmpfs", "-o", "size=256k", "none")
    say(refusal(lambda: save_checkpoint(folder, checkpoint(1, 10**6), 1)))
    save_checkpoint(folder, checkpoint(2, 8), 1)
    say(refusal(lambda: save_checkpoint(folder, checkpoint(3, 10**6), 1)))
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-2"]
    assert load_checkpoint(latest_checkpoint(folder).path).step == 2


def read_only(folder):
    mount(folder, "--bind", "-o", "ro", folder)
    say(refusal(lambda: RunFolder.open(folder, "recipe", {"seed": 1})).splitlines()[0])


def full_disk(folder):
    mount(folder, "-t", "tmpfs", "-o", "size=64k", "none")
    path = folder / "run"
    path.mkdir()
    try:
        (folder / "filler").write_bytes(bytes(1 << 20))
    except OSError:
        say("tick")
    full = "No space left on device"
    assert full in refusal(lambda: RunFolder.open(path, "recipe", {}))
    (folder / "filler").unlink()
    with RunFolder.open(path, "recipe", {}) as run:
        run.append_metrics([{"step": 1}])
        assert full in refusal(lambda: run.append_metrics([{"text": "x" * 1000}] * 100))
        assert (path / "metrics.jsonl").read_text() == '{"step": 1}\n'
        assert full in refusal(lambda: run.replace_folder("model", lambda new: (new / "w").write_bytes(bytes(10**6))))
        tensors = {"w": torch.zeros(10**6)}
        assert full in refusal(lambda: run.replace_folder("model", lambda new: save_file(tensors, new / "w")))
        assert sorted(child.name for child in path.iterdir()) == [
            ".lock",
            "identity.json",
            "metrics.jsonl",
            "recipe.yaml",
        ]
        run.append_metrics([{"step": 2}])
    say("done")


def loop(_, count):
    """Steps until a stop is requested, like the training loop."""
    with StopSignal() as stop:
        say("done")
        for _ in range(count):
            signal.sigtimedwait([], 0.01)
            if stop.requested:
                say("checkpoint")
                return


JOBS = {
    job.__name__: job
    for job in (checkpoints, same_step, life, hold, orphan, limited, loop, small_disk, read_only, full_disk)
}


def watch(folder, kill_at):
    numbers = itertools.count(1)
    fsync = os.fsync

    def tick():
        number = next(numbers)
        say("tick")
        if number == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event, arguments):
        if event in _EVENTS and str(arguments[0]).startswith(folder):
            tick()

    def watched_fsync(descriptor):
        tick()
        fsync(descriptor)

    os.fsync = watched_fsync
    sys.addaudithook(hook)


def work(job, folder, kill_at=None, **arguments):
    say(f"pid {os.getpid()}")
    status = 1
    try:
        watch(folder, kill_at)
        JOBS[job](Path(folder), **arguments)
        status = 0
    finally:
        # A child must not continue as the fork server, whatever happened to it.
        if status:
            traceback.print_exc()
        os._exit(status)


def main():
    torch.set_num_threads(1)
    say("ready")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            work(**json.loads(line))
        _, status = os.waitpid(child, 0)
        say(f"end {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
