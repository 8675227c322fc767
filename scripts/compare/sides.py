"""The two versions of the code, and runs of a case in one of them, started as a user starts them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from scripts.compare.cases import Case
from scripts.compare.outcome import NO_RENAMES, Outcome, read_outcome
from scripts.compare.renames import Renames, Schema, command_words, translated
from scripts.compare.rows import write_rows

ROOT = Path(__file__).parents[2]
LONGEST = 900.0
"""Seconds after which a run is taken to hang."""
TAIL = 15
"""Lines of a failed run's output that are shown."""
_POLL = 0.005


class SideError(Exception):
    """A version of the code could not do what it was asked; the message is the tail of its output."""


@dataclass(frozen=True, slots=True)
class Side:
    """A version of the code."""

    name: str
    tree: Path
    """The checkout."""
    folder: Path
    """Where its runs and caches are."""
    schema: Schema
    renames: Renames
    """Empty for the working tree, whose names are those of the cases."""

    @classmethod
    def of(cls, name: str, tree: Path, folder: Path, renames: Renames = NO_RENAMES) -> Side:
        """A checkout, asked what its recipes may have.

        Raises:
            SideError: its code does not start, or another checkout's code is imported.
        """
        folder.mkdir(parents=True)
        environment = _environment(tree, folder / "cache")
        imported = _output([sys.executable, "-c", "import burnish; print(burnish.__file__)"], folder, environment)
        if not Path(imported.strip()).resolve().is_relative_to(tree.resolve()):
            raise SideError(f"{name}: python imports {imported.strip()}, and the checkout is {tree}")
        schema = _output([sys.executable, "-m", "burnish", "schema"], folder, environment)
        return cls(name, tree, folder, Schema(json.loads(schema)), renames)

    def outcome(self, name: str, case: Case, *, undisturbed: bool = False) -> Outcome:
        """What a run of a case leaves behind, see `run`.

        Raises:
            SideError: it fails, or leaves no weights; the message begins with the side.
        """
        try:
            return read_outcome(self.run(name, case, undisturbed=undisturbed), self.renames)
        except (SideError, FileNotFoundError) as error:
            raise SideError(f"{self.name}: {error}") from error

    def run(self, name: str, case: Case, *, undisturbed: bool = False) -> Path:
        """Runs a case in a folder of its own, with a cache of its own; returns the run folder.

        Args:
            undisturbed: not killed, also if the case says so.

        Raises:
            SideError: it does not end with 0, or ends before it can be killed.
        """
        folder = self.folder / (f"{name}-undisturbed" if undisturbed else name)
        folder.mkdir()
        write_rows(folder)
        recipe = translated(case.recipe, self.renames, self.schema)
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
        words = command_words(["run"], self.renames, self.schema)
        command = [sys.executable, "-m", "burnish", *words, "recipe.yaml", "--output", "run"]
        environment = _environment(self.tree, folder / "cache")
        if case.killed_after is not None and not undisturbed:
            _start_and_kill(command, folder, environment, case.killed_after)
        _finish(_start(command, folder, environment), folder)
        return folder / "run"


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A worktree of a commit in a temporary folder, gone afterwards.

    Raises:
        SideError: there is no such commit.
    """
    with tempfile.TemporaryDirectory(prefix="burnish-compare-") as place:
        tree = Path(place) / "tree"
        _output(["git", "worktree", "add", "--detach", str(tree), commit], ROOT, dict(os.environ))
        try:
            yield tree
        finally:
            _output(["git", "worktree", "remove", "--force", str(tree)], ROOT, dict(os.environ))


def _environment(tree: Path, cache: Path) -> dict[str, str]:
    """One thread, since the order of sums depends on their number; nothing is fetched."""
    ours = {"PYTHONPATH": str(tree), "BURNISH_CACHE": str(cache), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return {**os.environ, **ours}


def _output(command: Sequence[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SideError(_tail(done.stdout + done.stderr) or f"{command} ends with {done.returncode}")
    return done.stdout


def _start(command: Sequence[str], folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with (folder / "output.txt").open("wb") as output:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)


def _finish(process: subprocess.Popen[bytes], folder: Path) -> None:
    try:
        ending = f"it ends with {process.wait(LONGEST)}"
    except subprocess.TimeoutExpired:
        ending = f"it did not end within {LONGEST:.0f} s"
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0:
        raise SideError(f"{ending}\n{_tail(_read(folder))}")


def _start_and_kill(command: Sequence[str], folder: Path, environment: dict[str, str], step: int) -> None:
    """Kills the run once the checkpoint of a step is there. Folders are looked for by name, wherever they are."""
    process, since = _start(command, folder, environment), time.monotonic()
    while process.poll() is None and not _has_folder(folder / "run", f"step-{step}"):
        if time.monotonic() - since > LONGEST:
            break
        time.sleep(_POLL)
    process.kill()
    if process.wait() != -signal.SIGKILL:
        ending = f"it ended with {process.returncode} before it was killed after step {step}"
        raise SideError(f"{ending}\n{_tail(_read(folder))}")
    if not _has_folder(folder / "run", f"step-{step}"):
        raise SideError(f"there is no checkpoint of step {step} after {LONGEST:.0f} s")


def _read(folder: Path) -> str:
    return (folder / "output.txt").read_text(encoding="utf-8", errors="replace")


def _has_folder(folder: Path, name: str) -> bool:
    # os.walk passes over folders that vanish while it looks, as old checkpoints do.
    return any(name in folders for _, folders, _ in os.walk(folder))


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-TAIL:])
