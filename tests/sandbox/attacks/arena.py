"""What an attack finds outside of the sandbox: files, listeners, another process; and what it has done to them."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

_ROOT = Path(__file__).parents[3]
_OPEN_FOLDERS = ("/tmp", "/dev/shm", "/var/tmp")
_HOME = Path.home()
_NOBODY = 65534


class Arena:
    """Files, sockets and a process outside. A context manager; `reset` makes it as new for the next attack."""

    def __init__(self) -> None:
        self.secret = f"secret-{secrets.token_hex(8)}"
        self.word = f"word-{secrets.token_hex(8)}"
        self.mark = f"left-{secrets.token_hex(4)}"
        self._stack = ExitStack()
        within = tuple(os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, *sys.path))
        names = os.listdir(_HOME) if os.access(_HOME, os.R_OK) else []
        self._names = [name for name in names if not any(str(_HOME / name) in path for path in within)]
        self._victim: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="arena-", dir="/tmp"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.folder.chmod(0o755)
        self._file("secret", self.secret, 0o644)
        self._file("planted.py", f"value = {self.secret!r}\n", 0o644)
        (self.folder / "link").symlink_to("secret")
        (self.folder / "open").mkdir()
        (self.folder / "open").chmod(0o777)
        self._tcp = self._socket(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        self._udp = self._socket(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
        self._stream = self._socket(socket.AF_UNIX, socket.SOCK_STREAM, str(self.folder / "stream"))
        self._datagram = self._socket(socket.AF_UNIX, socket.SOCK_DGRAM, str(self.folder / "datagram"))
        self._abstract = self._socket(socket.AF_UNIX, socket.SOCK_STREAM, f"\0arena-{self.mark}")
        for name in ("stream", "datagram"):
            (self.folder / name).chmod(0o777)
        self.reset()
        return self

    def __exit__(self, *error: object) -> None:
        if self._victim is not None:
            self._victim.kill()
            self._victim.wait()
        self.reset_folders()
        self._stack.close()

    def host(self) -> dict[str, Any]:
        """What a program is told, as ``HOST``."""
        assert self._victim is not None, "an arena is entered"
        return {
            "word": self.word,
            "mark": self.mark,
            "folder": str(self.folder),
            "secret": str(self.folder / "secret"),
            "target": str(self.folder / "target"),
            "open": str(self.folder / "open"),
            "stream": str(self.folder / "stream"),
            "datagram": str(self.folder / "datagram"),
            "abstract": f"\0arena-{self.mark}",
            "tcp": self._tcp.getsockname()[1],
            "udp": self._udp.getsockname()[1],
            "victim": self._victim.pid,
            "caller": os.getpid(),
            "home": str(_HOME),
            "names": self._names,
            "project": str(_ROOT / "tests" / "sandbox" / "attacks" / "record.py"),
        }

    def reset(self) -> None:
        """Makes everything as it was."""
        self.effects()
        self._file("target", "original", 0o666)
        shutil.rmtree(self.folder / "open", ignore_errors=True)
        (self.folder / "open").mkdir()
        (self.folder / "open").chmod(0o777)
        self._file("open/old", "old", 0o666)
        self.reset_folders()
        if self._victim is None or self._victim.poll() is not None:
            # Root's processes are no victims of a program that runs as nobody.
            user = {"user": _NOBODY, "group": _NOBODY, "extra_groups": ()} if os.geteuid() == 0 else {}
            with open(self.folder / "secret", "rb") as file:
                environment = {"BURNISH_SECRET": self.secret}
                streams = {"stdin": file, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
                self._victim = subprocess.Popen(["/bin/sleep", "3600"], env=environment, **streams, **user)  # type: ignore[call-overload]

    def reset_folders(self) -> None:
        """Removes marks in folders that every program may write to."""
        for folder in _OPEN_FOLDERS:
            with suppress(OSError):
                os.unlink(os.path.join(folder, self.mark))

    def effects(self) -> list[str]:
        """What an attack has done; sockets are emptied, and processes that it left are ended."""
        found = [name for name in ("_tcp", "_udp", "_stream", "_datagram", "_abstract") if self._was_used(name)]
        with suppress(OSError):
            if (self.folder / "target").read_text() != "original":
                found.append("target")
        if not (self.folder / "target").exists():
            found.append("target")
        if [path.name for path in (self.folder / "open").iterdir()] != ["old"]:
            found.append("open")
        if self._victim is None or self._victim.poll() is not None:
            found.append("victim")
        return found + self.marked()

    def marked(self) -> list[str]:
        """Processes with the mark for a name, which are ended."""
        found = []
        for pid in _processes():
            with suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().strip() == self.mark:
                    found.append(f"process {pid}")
                    os.kill(pid, signal.SIGKILL)
        return found

    def _was_used(self, name: str) -> bool:
        server: socket.socket = getattr(self, name)
        used = False
        with suppress(BlockingIOError):
            while True:
                if server.type == socket.SOCK_STREAM:
                    server.accept()[0].close()
                else:
                    server.recv(16)
                used = True
        return used

    def _socket(self, family: int, kind: int, address: object) -> socket.socket:
        server = self._stack.enter_context(socket.socket(family, kind))
        server.bind(address)  # type: ignore[arg-type]
        if kind == socket.SOCK_STREAM:
            server.listen()
        server.setblocking(False)
        return server

    def _file(self, name: str, text: str, mode: int) -> None:
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)


def _processes() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())
