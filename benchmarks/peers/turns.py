"""Runs contenders in turn, each in a process of its own, and computes medians of their measurements."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from peers.cases import ENVIRONMENT, Case, Contender

Figures = dict[str, Any]
"""`Meter.figures` of one process."""
Found = tuple[Contender, dict[str, float]]
"""TRL's fastest setting, and the rate of each candidate."""
OURS = "burnish"
INHERITED = dict(os.environ)
"""Environment of all contenders, as it was before Burnish set variables for libraries in this process."""


@dataclass(frozen=True, slots=True)
class Place:
    """Folder with models and rows of all cases."""

    folder: Path
    peer: Path | None = None
    """Folder with another version of TRL, which its processes import; None: the one that is installed."""

    def model(self, size: str) -> Path:
        return self.folder / size

    def rows(self, case: Case, *, searching: bool = False) -> Path:
        """JSONL of conversations; a second file, with the suffix .tokens, has their tokens and labels."""
        return self.folder / f"{case.size}-{case.data}{'-search' if searching else ''}.jsonl"

    def tokens(self, case: Case, *, searching: bool = False) -> list[int]:
        """Tokens of each step."""
        with self.rows(case, searching=searching).with_suffix(".tokens").open(encoding="utf-8") as file:
            lengths = [len(json.loads(line)["input_ids"]) for line in file]
        size = case.rows_per_step
        return [sum(lengths[start : start + size]) for start in range(0, len(lengths), size)]


def train_here(case: Case, contender: Contender, model: Path, rows: Path) -> Figures:
    """Trains in this process, which imports only what the contender needs."""
    if contender.library == OURS:
        from peers.ours import train
    else:
        from peers.theirs import train
    with tempfile.TemporaryDirectory(dir=rows.parent) as output:
        return train(case, contender, model, rows, Path(output) / "run")


def train_apart(case: Case, contender: Contender, place: Place, *, searching: bool = False) -> Figures | None:
    """Trains in a process of its own, with OMP_NUM_THREADS threads, or as many as there are cores; None: it failed,
    and the end of its output was printed."""
    folders = str(place.model(case.size)), str(place.rows(case, searching=searching))
    given = [case.size, case.data, case.adapter, case.per_step, case.loss], contender.as_json(), *folders
    command = [sys.executable, sys.argv[0], "--contender", json.dumps(given)]
    environment = {**INHERITED, **ENVIRONMENT, "BURNISH_CACHE": str(place.folder / "cache")}
    if place.peer is not None and contender.library != OURS:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(place.peer), INHERITED.get("PYTHONPATH")]))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{case.name}: {contender.name} failed: {done.stderr.strip().splitlines()[-1:]}", flush=True)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def search(
    case: Case, tried: Sequence[Contender], place: Place, rate: Callable[[Figures], float], unit: str = "tokens/s"
) -> Found:
    """Fastest of the candidates, and the rate of each; one round on the rows of the search."""
    rates: dict[str, float] = {}
    for contender in tried:
        if (figures := train_apart(case, contender, place, searching=True)) is not None:
            rates[contender.name] = rate(figures)
            print(f"{case.name}: {contender.name}: {rates[contender.name]:,.1f} {unit}", flush=True)
    assert rates, "TRL trains with one of the settings"
    return max((each for each in tried if each.name in rates), key=lambda each: rates[each.name]), rates


def measure(
    cases: Sequence[Case],
    path: Path | None,
    *,
    seek: Callable[[Case], Found],
    compare: Callable[[Case, Contender], dict[str, Any] | None],
    tell: Callable[[dict[str, Any]], None],
) -> None:
    """Searches once for each size, then runs all in turn; prints and writes results after each case.

    Args:
        cases: what is compared.
        path: JSON file of results; None: none.
        seek: finds TRL's fastest setting for a size.
        compare: results of a case with that setting among the rivals; None: there are none.
        tell: prints the results of a case.
    """
    results: list[dict[str, Any]] = []
    best: dict[str, Found] = {}
    for case in cases:
        if case.size not in best:
            best[case.size] = seek(case)
        fastest, tried = best[case.size]
        if (result := compare(case, fastest)) is None:
            continue
        results.append({**result, "best": fastest.as_json(), "tried": tried})
        tell(results[-1])
        if path is not None:
            path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def compare(case: Case, rivals: Sequence[Contender], place: Place, rounds: int) -> dict[str, Any] | None:
    """Results of a case; None: Burnish failed, so there is nothing to compare with."""
    found: dict[str, list[Figures]] = {rival.name: [] for rival in rivals}
    for _ in range(rounds):
        for rival in rivals:
            if (figures := train_apart(case, rival, place)) is not None:
                found[rival.name].append(figures)
    ours, tokens = found[OURS], place.tokens(case)
    if not ours:
        return None
    flops, peak = ours[0]["flops"], max(each["matmul_peak"] for each in ours)
    summaries = {
        rival.name: _summarize(found[rival.name], tokens, flops, peak, packed="packing" in rival.settings)
        for rival in rivals
        if found[rival.name]
    }
    twins = {rival.narrow: rival.name for rival in rivals if rival.library == OURS and found[rival.name]}
    for rival in (rival for rival in rivals if rival.name in summaries):
        twin = twins.get(rival.narrow, OURS)
        summary = summaries[rival.name]
        summary["beside"] = twin
        summary["losses_apart"] = _furthest(found[rival.name][0]["losses"], found[twin][0]["losses"])
    return {
        "case": case.name,
        "matmul_peak": peak,
        "tokens": tokens,
        "losses": {name: each[0]["losses"] for name, each in found.items() if each},
        "contenders": summaries,
    }


def _summarize(
    found: list[Figures], tokens: list[int], flops: list[float], peak: float, *, packed: bool
) -> dict[str, Any]:
    """Medians over rounds. Rates leave the first step out, but where packing puts other rows into steps."""
    steps = slice(0 if packed else 1, None)
    rate = median(sum(tokens[steps]) / sum(each["walls"][steps]) for each in found)
    return {
        "tokens_per_second": rate,
        "tokens_per_cpu_second": median(sum(tokens[steps]) / sum(each["cpus"][steps]) for each in found),
        "beyond_mib": median(each["beyond"] for each in found) / 2**20,
        "first_step_seconds": median(each["first"] for each in found),
        "of_peak": sum(flops[steps]) / sum(tokens[steps]) * rate / peak,
        "rounds": len(found),
    }


def _furthest(losses: list[float], reference: list[float]) -> float | None:
    """Largest relative difference of two loss curves; None: they are of other rows."""
    if len(losses) != len(reference):
        return None
    return max(abs(mine - other) / abs(other) for mine, other in zip(losses, reference, strict=True))
