"""Which files of the package run between a command and its first update: `python -m scripts.trace_run sft|rl`.

A figure to understand the way from a recipe to a step, phase by phase; see docs/design.md. It counts files and
functions of the main process, by a profiler on every call, single-threaded.
"""

from __future__ import annotations

import argparse
import inspect
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

import torch

import burnish
from burnish.cli.main import _status

PACKAGE = Path(burnish.__file__).parent
COMMANDS: Mapping[str, list[str]] = {
    "sft": ["sft", "--model", "builtin:tiny", "--data", "builtin:chat", "--max-steps", "1", "sequences_per_step=4"],
    "rl": [
        *("rl", "--model", "builtin:tiny", "--data", "builtin:math", "--max-steps", "1"),
        "reward={name: length, target: 10, tolerance: 20, unit: characters}",
        *("groups_per_step=2", "responses_per_prompt=4", "max_new_tokens=8", "reward_workers=1"),
    ],
}
PHASES = {
    "run": "the recipe is read",
    "build_job": "data are opened",
    "Stage.run": "the stage is built",
    "Learner.step": "the first step is drawn",
    "Trainer.optim_step": "forward and backward",
}
"""Function whose first call ends a phase → the phase."""


class Trace:
    """Files and functions seen in each phase, up to the first update."""

    def __init__(self) -> None:
        self.phases: dict[str, set[tuple[str, str]]] = {}
        self._waiting = dict(PHASES)
        self._now: set[tuple[str, str]] = set()

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(str(PACKAGE)):
            return
        if code.co_qualname in self._waiting:
            self.phases[self._waiting.pop(code.co_qualname)] = self._now
            self._now = set()
        if code.co_flags & inspect.CO_OPTIMIZED:  # a function; modules and classes only define something
            self._now.add((str(Path(code.co_filename).relative_to(PACKAGE)), code.co_qualname))

    @property
    def is_complete(self) -> bool:
        """Whether the first update was reached."""
        return not self._waiting


def main() -> None:
    """Runs the command, and prints a table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("command", choices=COMMANDS)
    arguments.add_argument("--files", action="store_true", help="also list the files of each phase")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    trace = Trace()
    with tempfile.TemporaryDirectory() as folder:
        command = [*COMMANDS[given.command], "--output"]
        assert _status([*command, str(Path(folder) / "first")]) == 0, "the first run imports all that it needs"
        sys.setprofile(trace)
        status = _status([*command, str(Path(folder) / "traced")])
        sys.setprofile(None)
    assert status == 0, "the command ends well"
    assert trace.is_complete, f"a phase did not begin: {', '.join(set(PHASES.values()) - trace.phases.keys())}"
    everything: set[tuple[str, str]] = set()
    print(f"{'phase':<26} files  functions")
    for phase, seen in trace.phases.items():
        everything |= seen
        print(f"{phase:<26} {len({file for file, _ in seen}):5}  {len(seen):9}")
        if given.files:
            print("".join(f"    {file}\n" for file in sorted({file for file, _ in seen})), end="")
    print(f"{'all, distinct':<26} {len({file for file, _ in everything}):5}  {len(everything):9}")


if __name__ == "__main__":
    main()
