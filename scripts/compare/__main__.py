"""Compares short trainings of a commit with those of the working tree, bit for bit.

    python -m scripts.compare COMMIT                 every kind of training, such as COMMIT = main or HEAD~3
    python -m scripts.compare COMMIT sft grpo        some kinds
    python -m scripts.compare --list                 the kinds

For a change that must not change results, such as a rename, a move or a refactoring. The commit is checked out into a
temporary folder; the working tree is taken as it is, with what is not committed, so leave it alone meanwhile. Both run
the same recipes with this interpreter and its packages, on one thread each, as `burnish run` of their own code. Final
weights of all stages, metrics.jsonl without times, rates and memory, and samples.jsonl have to be the same. Cases that
are killed and resumed are also compared with an undisturbed run of the working tree.

A line for each kind says: identical; differs (where first, which figures and tensors, by how much at most); or failed
(on which side, with the end of its output). The exit status is 0 if all are identical, 1 if not, 2 if a side does not
start. No hashes are kept, since kernels differ between processors.

Cases (`cases.py`) are written in the names of the working tree. What an older commit calls otherwise stands in
`renames.yaml`: whoever renames a key, a metric or a reward's option changes the cases, and adds a line there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from scripts.compare.cases import CASES
from scripts.compare.outcome import compare
from scripts.compare.renames import Renames
from scripts.compare.sides import ROOT, Side, SideError, checked_out

WIDTH = max(map(len, CASES))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the comparison; returns the exit status."""
    asked = _parser().parse_args(arguments)
    if asked.list:
        for name, case in CASES.items():
            print(f"{name:{WIDTH}}  {case.about}")
        return 0
    if asked.commit is None:
        _parser().error("name the commit to compare with")
    if unknown := [name for name in asked.kinds if name not in CASES]:
        _parser().error(f"there is no kind {unknown[0]}; the kinds are {', '.join(CASES)}")
    try:
        return _compare(asked.commit, asked.kinds or list(CASES), asked.jobs, asked.output)
    except SideError as error:
        print(error, file=sys.stderr)
        return 2


def _compare(commit: str, kinds: Sequence[str], jobs: int, output: Path | None) -> int:
    with ExitStack() as stack:
        old = stack.enter_context(checked_out(commit))
        place = output or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="burnish-compare-")))
        base = Side.of("commit", old, place.absolute() / "commit", Renames.read())
        tree = Side.of("working tree", ROOT, place.absolute() / "tree")
        executor = stack.enter_context(ThreadPoolExecutor(jobs))
        stack.callback(executor.shutdown, wait=False, cancel_futures=True)
        identical = []
        for line, same in executor.map(partial(_verdict, base, tree), kinds):
            print(line, flush=True)
            identical.append(same)
    print(f"{sum(identical)} of {len(identical)} kinds are identical")
    return 0 if all(identical) else 1


def _verdict(base: Side, tree: Side, kind: str) -> tuple[str, bool]:
    """What became of a kind, and whether it is identical."""
    case, since = CASES[kind], time.monotonic()
    try:
        older = base.outcome(kind, case)
        between = time.monotonic()
        newer = tree.outcome(kind, case)
        took = f"({between - since:.0f} s, {time.monotonic() - between:.0f} s)"
        found = compare(older, newer)
        if not found.identical:
            return _line(kind, "differs", f"{found.line()} {took}"), False
        if case.killed_after is not None:
            resumed = compare(tree.outcome(kind, case, undisturbed=True), newer)
            if not resumed.identical:
                return _line(kind, "differs", f"resumed from undisturbed: {resumed.line()} {took}"), False
    except SideError as error:
        return _line(kind, "failed", str(error)), False
    return _line(kind, "identical", f"{found.line()} {took}"), True


def _line(kind: str, verdict: str, rest: str) -> str:
    return f"{kind:{WIDTH}}  {verdict:9}  " + rest.replace("\n", "\n    ")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.compare", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("commit", nargs="?", help="what git calls the older version: main, HEAD~3, a hash")
    parser.add_argument("kinds", nargs="*", help="kinds of training (default: all)")
    parser.add_argument("--list", action="store_true", help="print the kinds and what they are")
    parser.add_argument("--jobs", type=int, default=1, help="kinds that run at the same time (default: 1)")
    parser.add_argument("--output", type=Path, help="a new folder that keeps the runs (default: a temporary one)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
