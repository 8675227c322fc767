"""Steps per second of whole stages in two versions of the package, by alternated runs.

    git worktree add ../before COMMIT
    python benchmarks/stage_speed.py ../before

Runs `sft` and `rl` on ``builtin:tiny`` from both folders in turn, as the command line does, and compares the medians of
``seconds_per_step`` after the first steps. The environment is that of this interpreter for both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parents[1]
WARMUP = 5
"""Steps that are left out."""
COMMANDS: Mapping[str, list[str]] = {
    "sft": ["sft", "--model", "builtin:tiny", "--data", "builtin:chat", "--max-steps", "40", "sequences_per_step=16"],
    "rl": [
        *("rl", "--model", "builtin:tiny", "--data", "builtin:math", "--max-steps", "20", "learning_rate=1e-4"),
        "reward={name: length, target: 10, tolerance: 20, unit: characters}",
        *("groups_per_step=4", "responses_per_prompt=8", "max_new_tokens=16", "reward_workers=1"),
    ],
}


def seconds_per_step(tree: Path, command: list[str]) -> float:
    """Median of the steps of one run."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        arguments = [sys.executable, "-m", "burnish", *command, "--output", str(run), "log_every=1"]
        environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
        subprocess.run(arguments, check=True, cwd=folder, env=environment, capture_output=True)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return statistics.median(
        line["seconds_per_step"] for line in lines if line.get("step", 0) > WARMUP and "train/loss" in line
    )


def main() -> None:
    """Prints a row for each command."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("before", type=Path, help="folder with the other version")
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    trees = {"before": given.before.resolve(), "after": HERE}
    print("| stage | before, steps/s | after, steps/s | after / before, of each round |")
    print("|---|---|---|---|")
    for name, command in COMMANDS.items():
        seconds: dict[str, list[float]] = {version: [] for version in trees}
        for _ in range(given.rounds):
            for version, tree in trees.items():
                seconds[version].append(seconds_per_step(tree, command))
        ratios = [before / after for before, after in zip(seconds["before"], seconds["after"], strict=True)]
        speeds = {version: 1 / statistics.median(values) for version, values in seconds.items()}
        shown = f"{', '.join(f'{ratio:.2f}' for ratio in ratios)}; median {statistics.median(ratios):.3f}"
        print(f"| {name} | {speeds['before']:.2f} | {speeds['after']:.2f} | {shown} |")


if __name__ == "__main__":
    main()
