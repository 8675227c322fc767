"""Processor time of a refused recipe: user and system time of a process of its own, the median of several.

``python benchmarks/recipe_errors.py [repeats]``. Commands: a mistyped key, a wrong type, a combination that cannot
work, a recipe file with a mistake; for comparison `burnish --help`, the interpreter alone, and the imports of pydantic,
typer and yaml, which every recipe needs.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

RECIPE = "model: some/model\nstages:\n  - rl: {data: x.jsonl, reward: math, responses: 1}\n"
IMPOSSIBLE = ["optimizer=schedule_free", "optimizer.ema_decay=0.9"]
"""A combination of settings that is refused."""
SFT = ["sft", "--model", "some/model", "--data", "x.jsonl"]


def commands(folder: Path) -> dict[str, tuple[list[str], int]]:
    """Name → arguments of Python and the expected exit status."""
    recipe = folder / "mine.yaml"
    recipe.write_text(RECIPE)
    burnish = ["-m", "burnish"]
    return {
        "python -c pass": (["-c", "pass"], 0),
        "import pydantic, typer, yaml": (["-c", "import pydantic, typer, yaml"], 0),
        "burnish --help": ([*burnish, "--help"], 0),
        "burnish sft … learning_rat=1": ([*burnish, *SFT, "learning_rat=1"], 2),
        "burnish sft … learning_rate=fast": ([*burnish, *SFT, "learning_rate=fast"], 2),
        f"burnish sft … {' '.join(IMPOSSIBLE)}": ([*burnish, *SFT, *IMPOSSIBLE], 2),
        "burnish run mine.yaml": ([*burnish, "run", str(recipe)], 2),
    }


def processor_seconds(arguments: list[str], status: int) -> float:
    """User and system time of a Python process with these arguments, its children included."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([sys.executable, *arguments], stdout=quiet, stderr=quiet)
    _, ending, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(ending)
    assert process.returncode == status, f"{arguments} ends with {process.returncode}"
    return used.ru_utime + used.ru_stime


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    with tempfile.TemporaryDirectory() as folder:
        table = commands(Path(folder))
        for arguments, status in table.values():
            processor_seconds(arguments, status)  # compiles what has changed, reads files into memory
        for name, (arguments, status) in table.items():
            seconds = [processor_seconds(arguments, status) for _ in range(repeats)]
            print(f"{name:48} {statistics.median(seconds):5.2f} s  ({min(seconds):.2f} to {max(seconds):.2f})")


if __name__ == "__main__":
    main()
