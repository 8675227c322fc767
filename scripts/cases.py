"""Counts how many cases (`tests/cases`) end wrongly in a commit, and how many in the working tree.

    python -m scripts.cases 53b1b5f                  all cases in both
    python -m scripts.cases 53b1b5f A-01 audit-04    cases whose names begin so

A line for each case: what it did in the commit and in the working tree. Each runs in a process of its own, with the
code of its side first on the path, and with a deadline. Cases are written in the names of the working tree; keys of
older commits stand in `scripts/compare/renames.yaml`. The exit status is 0 if all cases end rightly in the working
tree.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scripts.compare.renames import Renames, Schema, command_words, translated
from scripts.compare.sides import ROOT, checked_out

DEADLINE = 300
"""Longest time of a case, seconds."""
STAGES = ("sft", "prefer", "reward", "rl")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the cases; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="commit to compare with, or - for none")
    parser.add_argument("names", nargs="*", help="beginnings of names; none: all cases")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--one", nargs=3, metavar=("TREE", "MODELS", "FOLDER"), help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.one:
        _run_one(asked.names[0], *map(Path, asked.one))
        return 0
    from tests.cases.trial import load_cases

    names = [name for name in load_cases() if not asked.names or name.startswith(tuple(asked.names))]
    if asked.commit == "-":
        return _report(names, {"now": ROOT}, asked.jobs)
    with checked_out(asked.commit) as tree:
        return _report(names, {asked.commit: tree, "now": ROOT}, asked.jobs)


def _report(names: Sequence[str], trees: dict[str, Path], jobs: int) -> int:
    wrong = dict.fromkeys(trees, 0)
    with tempfile.TemporaryDirectory(prefix="burnish-cases-") as place, ThreadPoolExecutor(jobs) as executor:
        found = executor.map(
            lambda name: {side: _fault(name, tree, Path(place) / side) for side, tree in trees.items()}, names
        )
        for name, faults in zip(names, found, strict=True):
            print(
                f"{name:40} " + " | ".join(f"{side}: {fault or 'right'}" for side, fault in faults.items()), flush=True
            )
            for side, fault in faults.items():
                wrong[side] += bool(fault)
    for side, count in wrong.items():
        print(f"{side}: {count} of {len(names)} cases end wrongly")
    return int(wrong["now"] > 0)


def _fault(name: str, tree: Path, place: Path) -> str:
    """What is wrong with a case in a tree; "": nothing."""
    folder = place / name
    folder.mkdir(parents=True)
    environment = {**os.environ, "PYTHONPATH": str(tree), "BURNISH_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__)), "-", name, "--one", str(tree), str(place / "models"), str(folder)]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, cwd=folder, timeout=DEADLINE
        )
    except subprocess.TimeoutExpired:
        return f"no end after {DEADLINE} s"
    last = (done.stderr or done.stdout).strip().splitlines()[-1:] or [f"status {done.returncode}"]
    return last[0][:160] if done.returncode else ""


def _run_one(name: str, tree: Path, models: Path, folder: Path) -> None:
    """Runs a case in this process, whose code is that of the tree. Raises what the case raises."""
    from tests.cases.trial import Trial, load_cases

    case = load_cases()[name]
    sys.path[:] = [str(tree), *(path for path in sys.path if path and Path(path) != ROOT)]
    import burnish

    assert Path(str(burnish.__file__)).is_relative_to(tree), "the code is that of the tree"
    case(Trial(folder, models, _translation(tree)))


def _translation(tree: Path) -> Any:
    """Function that gives the words of a command the names of a commit."""
    if tree == ROOT:
        return list
    asked = subprocess.run([sys.executable, "-m", "burnish", "schema"], cwd=tree, capture_output=True, check=True)
    schema, renames = Schema(json.loads(asked.stdout)), Renames.read()

    def translate(words: Sequence[str]) -> list[str]:
        kind = words[0] if words[0] in STAGES else None
        settings = dict(word.split("=", 1) for word in words if kind and "=" in word and not word.startswith("-"))
        rest = [word for word in words if not (kind and "=" in word and not word.startswith("-"))]
        recipe = translated({"stages": [{kind: _nested(settings)}]}, renames, schema) if kind else {"stages": []}
        given = [f"{key}={value}" for stage in recipe["stages"] for key, value in _flat(stage[kind])]
        return [*command_words(rest, renames, schema), *given]

    return translate


def _nested(settings: dict[str, str]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        *path, last = key.split(".")
        place = nested
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return nested


def _flat(settings: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    return [
        entry
        for key, value in settings.items()
        for entry in (_flat(value, f"{before}{key}.") if isinstance(value, dict) else [(f"{before}{key}", value)])
    ]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    sys.exit(main())
