"""The fixtures with which tests kill processes and fill disks: see nursery.py."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SECLUDED = ["unshare", "--mount"]


class Nursery:
    """Starts jobs one after the other, reads what they say, kills them."""

    def __init__(self, process):
        self.process = process
        assert self.read() == "ready"

    def start(self, job, folder, **arguments):
        order = {"job": job, "folder": str(folder), **arguments}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.read().removeprefix("pid "))

    def read(self):
        line = self.process.stdout.readline()
        assert line, "the nursery has died"
        return line.strip()

    def read_until(self, word):
        """The last line, which begins with the word, after the ones before it."""
        said = [self.read()]
        while not said[-1].startswith(word):
            said.append(self.read())
        return said

    def finish(self):
        """Wait for the child's end: its exit status (negative: the signal), and all that it claimed to be safe."""
        said = self.read_until("end")
        return int(said[-1].removeprefix("end ")), [line for line in said if line != "tick"][:-1]

    def run(self, job, folder, **arguments):
        self.start(job, folder, **arguments)
        return self.finish()

    def kill(self, pid):
        """SIGKILL, and what the child claimed before it took effect."""
        os.kill(pid, signal.SIGKILL)
        status, said = self.finish()
        assert status == -signal.SIGKILL
        return said


@pytest.fixture(scope="session")
def nursery():
    with opened([]) as process:
        yield Nursery(process)
        process.stdin.close()


@pytest.fixture(scope="session")
def secluded():
    """A nursery whose mounts nobody else sees, and which are gone when it dies."""
    trial = [*SECLUDED, "mount", "-t", "tmpfs", "none", "/mnt"]
    if not shutil.which("unshare") or subprocess.run(trial, check=False, capture_output=True).returncode != 0:
        pytest.skip("this user may not mount anything here")
    with opened(SECLUDED) as process:
        yield Nursery(process)
        process.stdin.close()


def opened(under):
    script = Path(__file__).with_name("nursery.py")
    pipe = subprocess.PIPE
    return subprocess.Popen([*under, sys.executable, script], stdin=pipe, stdout=pipe, text=True)
