"""Fixtures of tests that kill processes and fill disks: see fork_server.py."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SECLUDED = ["unshare", "--mount"]


class ForkServer:
    """Client of the fork server: starts jobs one after the other, reads their lines, kills them."""

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
        assert line, "the fork server has ended"
        return line.strip()

    def read_until(self, word):
        """The last line, which begins with the word, after the ones before it."""
        lines = [self.read()]
        while not lines[-1].startswith(word):
            lines.append(self.read())
        return lines

    def finish(self):
        """Waits for the child's end; returns its exit status (negative: the signal), and its lines."""
        lines = self.read_until("end")
        return int(lines[-1].removeprefix("end ")), [line for line in lines if line != "tick"][:-1]

    def run(self, job, folder, **arguments):
        self.start(job, folder, **arguments)
        return self.finish()

    def kill(self, pid):
        """Sends SIGKILL; returns the child's lines before it took effect."""
        os.kill(pid, signal.SIGKILL)
        status, lines = self.finish()
        assert status == -signal.SIGKILL
        return lines


@pytest.fixture(scope="session")
def fork_server():
    with opened([]) as process:
        yield ForkServer(process)
        process.stdin.close()


@pytest.fixture(scope="session")
def secluded():
    """Fork server in a mount namespace of its own."""
    trial = [*SECLUDED, "mount", "-t", "tmpfs", "none", "/mnt"]
    if not shutil.which("unshare") or subprocess.run(trial, check=False, capture_output=True).returncode != 0:
        pytest.skip("this user may not mount anything here")
    with opened(SECLUDED) as process:
        yield ForkServer(process)
        process.stdin.close()


def opened(under):
    script = Path(__file__).with_name("fork_server.py")
    pipe = subprocess.PIPE
    return subprocess.Popen([*under, sys.executable, script], stdin=pipe, stdout=pipe, text=True)
