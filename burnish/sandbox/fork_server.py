"""Starts the fork server of the sandbox (`server.main`), and tells what a machine lacks for a level."""

from __future__ import annotations

import json
import os
import shutil
import site
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from burnish.errors import RecipeError, UserError
from burnish.sandbox.base import Level
from burnish.sandbox.server import landlock, seccomp
from burnish.sandbox.server.main import REQUEST
from burnish.sandbox.server.supervisor import REMOVE

_SOURCE = "import sys; sys.path.append({root!r}); from burnish.sandbox.server.main import main; main({options!r})"
_BUBBLEWRAP = ("bwrap", "--unshare-user", "--cap-add", "ALL", "--dev-bind", "/", "/", "--")
"""Makes a user namespace where a policy allows that to this program alone (AppArmor on Ubuntu)."""
_START_SECONDS = 60.0


@dataclass(eq=False, slots=True)
class ForkServer:
    """A running server. Its owner closes it."""

    popen: subprocess.Popen[bytes]
    _requests: socket.socket
    folder: str | None = None
    """Holds the folders of its programs; None: they have file systems of their own."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def start(cls, level: Level, seed: int) -> ForkServer:
        """Starts a server.

        Raises:
            UserError: the machine does not offer the level.
        """
        if lacks := missing(level):
            raise _refused(level, lacks)
        found = cls._try(level, seed, ())
        helped = level >= Level.ISOLATED and os.geteuid() != 0 and shutil.which(_BUBBLEWRAP[0]) is not None
        if isinstance(found, str) and helped:
            direct, found = found, cls._try(level, seed, _BUBBLEWRAP)
            if isinstance(found, str):
                found = f"{direct}; through bubblewrap: {found}"
        if isinstance(found, str):
            raise _refused(level, [f"namespaces: {found}" if level >= Level.ISOLATED else found])
        return found

    @classmethod
    def _try(cls, level: Level, seed: int, prefix: tuple[str, ...]) -> ForkServer | str:
        """A server that is ready, or why there is none."""
        requests, end = socket.socketpair()
        options = {"level": int(level), "packages": _packages(), "namespaces": bool(prefix)}
        source = _SOURCE.format(root=str(Path(__file__).parents[2]), options=json.dumps(options))
        # Without site (-S) nothing of the environment is imported; -P: nor from the current folder.
        command = [*prefix, sys.executable, "-P", "-S", "-s", "-c", source]
        environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": str(seed)}
        environment |= {"OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        with end:
            popen = subprocess.Popen(
                command, env=environment, cwd="/", stdin=end.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
        requests.settimeout(_START_SECONDS)
        try:
            line = _line(requests)
        except OSError:
            line = b""
        requests.settimeout(None)
        message = json.loads(line) if line else {}
        server = cls(popen, requests)
        if "ready" in message:
            assert popen.stderr is not None, "its standard error is a pipe"
            popen.stderr.close()
            server.folder = message["folder"]
            return server
        server.close(keep_errors=True)
        assert popen.stderr is not None, "its standard error is a pipe"
        with popen.stderr as errors:
            said = errors.read().decode(errors="replace").strip().rpartition("\n")[2]
        return str(message.get("failed") or said or "the server of the sandbox ended")

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def send(self, request: bytes, descriptors: list[int]) -> None:
        """Sends a request with descriptors. Raises OSError: the server has ended."""
        with self._lock:
            socket.send_fds(self._requests, [request.ljust(REQUEST)], descriptors)

    def close(self, *, keep_errors: bool = False) -> None:
        """Ends the server."""
        self._requests.close()
        try:
            self.popen.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        if self.folder is not None and os.path.isdir(self.folder):  # the server was killed
            # Root needs no other modes, and must not set them in a folder of another user.
            command = ["rm", "-rf", "--"] if os.geteuid() == 0 else ["sh", "-c", REMOVE]
            subprocess.run([*command, self.folder], check=False, stderr=subprocess.DEVNULL)
        if self.popen.stderr is not None and not keep_errors:
            self.popen.stderr.close()


def missing(level: Level) -> list[str]:
    """What this machine lacks for a level, without an attempt to use it; []: nothing is known to lack."""
    if level is Level.PROCESS:
        return []
    if sys.platform != "linux":
        return [f"Linux (this is {sys.platform})"]
    lacks = []
    if not seccomp.supported():
        lacks.append(f"seccomp filters (on this kernel, {os.uname().release}, or for {os.uname().machine})")
    if level is Level.RESTRICTED and landlock.version() < landlock.NEEDED:
        lacks.append("Landlock (a kernel of version 6.2 or later with landlock among its security modules)")
    return lacks


def best_level() -> Level:
    """The highest level of this machine, found by starting a server."""
    for level in sorted(Level, reverse=True):
        try:
            ForkServer.start(level, 0).close()
        except UserError:
            continue
        return level
    raise AssertionError("level process needs nothing")


def _packages() -> list[str]:
    """Folders of installed packages: those of this interpreter, and others in use (``pip install --user``)."""
    used = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    return list(dict.fromkeys([*site.getsitepackages(), *used]))


def _refused(level: Level, lacks: list[str]) -> UserError:
    lower = [other.label for other in Level if other < level]
    return RecipeError(
        given=f"isolation: {level.label}, and this machine lacks {'; '.join(lacks)}",
        rule="a program is run at the level of isolation that is demanded, or not at all (docs/sandbox.md)",
        remedy=f"run where that exists, or choose a lower level: {', '.join(reversed(lower))}"
        if lower
        else "run where that exists",
    )


def _line(source: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        part = source.recv(1)
        if not part:
            return b""
        line += part
    return line
