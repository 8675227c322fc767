"""Supervised fine-tuning by Burnish beside TRL's SFTTrainer: the same model, rows, optimiser, type and trained tokens.

    python benchmarks/sft_peers.py --shared ../shared --json docs/pictures/sft_peers.json

Llamas of 1, 15 and 100 million parameters with random weights, GSM8K and a long-tailed mixture of real rows (30 to 600
tokens), full weights, LoRA and QLoRA. Every contender trains in a process of its own, they take turns, and medians over
rounds are told: tokens of rows per second (padding does not count), the same by processor time, the peak of memory above
the loaded model, seconds to the end of the first step, the share of the matrix-multiply peak, and how far losses are
apart. Prints the tables of docs/benchmarks.md; `python benchmarks/peers/picture.py` draws the JSON.

``--search`` tries settings of TRL instead, to find its best; ``--only 15M`` takes the cases whose names contain that.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from peers.cases import BURNISH, CASES, ENVIRONMENT, SEARCHED, SIZES, Case, Contender, contenders

STEPS = 5
"""Of each process; the first warms up."""


def train(case: Case, contender: Contender, place: Path) -> dict[str, Any]:
    """In this process; imports only what the contender needs."""
    if contender.library == "burnish":
        from peers.ours import train as trained
    else:
        from peers.theirs import train as trained
    with tempfile.TemporaryDirectory(dir=place) as output:
        return trained(case, contender, place / case.size, place / f"{case.size}-{case.data}.jsonl", Path(output))


def train_apart(case: Case, contender: Contender, place: Path) -> dict[str, Any] | None:
    """In a process of its own, with as many threads as OMP_NUM_THREADS says, or as there are cores; None: it failed,
    and its last words are told."""
    command = [
        sys.executable,
        __file__,
        "--place",
        str(place),
        "--case",
        json.dumps([case.size, case.data, case.adapter]),
    ]
    command += ["--contender", json.dumps(contender.as_json())]
    environment = {**os.environ, **ENVIRONMENT, "BURNISH_CACHE": str(place / "cache")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{case.name}: {contender.name} failed: {done.stderr.strip().splitlines()[-1:]}", flush=True)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def make_material(cases: list[Case], place: Path, shared: Path, steps: int) -> dict[str, list[int]]:
    """Models and rows. Returns the tokens of each step by size and data."""
    from peers.material import save_model, write_rows

    os.environ["BURNISH_CACHE"] = str(place / "cache")
    tokens = {}
    for size in dict.fromkeys(case.size for case in cases):
        save_model(place / size, size, shared)
    for case in {(case.size, case.data): case for case in cases}.values():
        path = place / f"{case.size}-{case.data}.jsonl"
        write_rows(path, case, place / case.size, steps, shared)
        lengths = [len(json.loads(line)["input_ids"]) for line in path.with_suffix(".tokens").open(encoding="utf-8")]
        size = case.rows_per_step
        tokens[f"{case.size}-{case.data}"] = [sum(lengths[k : k + size]) for k in range(0, len(lengths), size)]
    return tokens


def rounds_of(case: Case, rivals: tuple[Contender, ...], place: Path, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Figures of every process, the contenders in turn."""
    found: dict[str, list[dict[str, Any]]] = {rival.name: [] for rival in rivals}
    for _ in range(rounds):
        for rival in rivals:
            if (figures := train_apart(case, rival, place)) is not None:
                found[rival.name].append(figures)
    return found


def summarise(found: list[dict[str, Any]], tokens: list[int], flops: list[float], peak: float) -> dict[str, float]:
    """Medians over rounds. Rates leave the first step out."""
    packed = len(found[0]["walls"]) != len(tokens)  # other rows in a step: all tokens by all steps
    steps = slice(None) if packed else slice(1, None)
    wall = median(sum(tokens[steps]) / sum(each["walls"][steps]) for each in found)
    cpu = median(sum(tokens[steps]) / sum(each["cpus"][steps]) for each in found)
    return {
        "tokens_per_second": wall,
        "tokens_per_cpu_second": cpu,
        "beyond_mib": median(each["beyond"] for each in found) / 2**20,
        "first_step_seconds": median(each["first"] for each in found),
        "of_peak": sum(flops[steps]) / sum(tokens[steps]) * wall / peak,
        "rounds": len(found),
    }


def furthest(losses: list[float], reference: list[float]) -> float | None:
    """The largest relative difference of two curves; None: they are of other rows."""
    if len(losses) != len(reference):
        return None
    return max(abs(a - b) / abs(b) for a, b in zip(losses, reference, strict=True))


def compare(case: Case, rivals: tuple[Contender, ...], place: Path, rounds: int, tokens: list[int]) -> dict[str, Any]:
    """All figures of a case."""
    found = rounds_of(case, rivals, place, rounds)
    ours = found[BURNISH.name]
    flops, peak = ours[0]["flops"], max(each["matmul_peak"] for each in ours)
    summary = {name: summarise(each, tokens, flops, peak) for name, each in found.items() if each}
    for name, each in summary.items():
        apart = furthest(found[name][0]["losses"], ours[0]["losses"])
        each |= {} if apart is None else {"losses_apart": apart}
    return {
        "case": case.name,
        "matmul_peak": peak,
        "tokens": tokens,
        "losses": {name: each[0]["losses"] for name, each in found.items() if each},
        "contenders": summary,
    }


def print_table(result: dict[str, Any]) -> None:
    """As in docs/benchmarks.md. Ratios are Burnish's figure over the contender's, or the contender's time over ours."""
    ours = result["contenders"][BURNISH.name]
    print(f"\n{result['case']}: matrix-multiply peak {result['matmul_peak'] / 1e9:.0f} GFLOP/s")
    print("| | tokens/s | burnish is | by processor time | of the peak | MiB above the model | burnish needs | s to step 1 "
          "| losses apart |\n|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    for name, each in result["contenders"].items():
        ratio = ours["tokens_per_second"] / each["tokens_per_second"]
        cpu = ours["tokens_per_cpu_second"] / each["tokens_per_cpu_second"]
        apart = f"{each['losses_apart']:.1e}" if "losses_apart" in each else "other rows"
        print(
            f"| {name} | {each['tokens_per_second']:,.0f} | {ratio:.2f}× | {cpu:.2f}× | {each['of_peak']:.0%} "
            f"| {each['beyond_mib']:,.0f} | {ours['beyond_mib'] / each['beyond_mib']:.2f}× "
            f"| {each['first_step_seconds']:.0f} | {apart} |",
            flush=True,
        )


def available(cases: list[Case]) -> list[Case]:
    """The cases that this Burnish can train; the others are told."""
    from peers.ours import has

    for case in cases:
        if not has(case.adapter):
            print(f"{case.name}: left out, since this burnish has no adapter of the kind {case.adapter}")
    return [case for case in cases if has(case.adapter)]


def main() -> None:
    """Prints tables and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, help="the folder with data/gsm8k, hh_rlhf, math500, mbpp")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--only", default="", help="cases whose names contain this, such as 15M or 100M-mixture-lora")
    parser.add_argument("--search", action="store_true", help="try settings of TRL")
    for word in ("--place", "--case", "--contender"):
        parser.add_argument(word, help=argparse.SUPPRESS)  # of a contender's own process
    given = parser.parse_args()
    if given.contender:
        case, contender = Case(*json.loads(given.case)), Contender.of(json.loads(given.contender))
        print(json.dumps(train(case, contender, Path(given.place))))
        return
    if not given.shared:
        parser.error("--shared is needed: the rows are real")
    assert all(case.size in SIZES for case in CASES), "cases are of known sizes"
    cases = available([case for case in CASES if given.only in case.name])
    with tempfile.TemporaryDirectory() as folder:
        tokens = make_material(cases, Path(folder), given.shared, given.steps)
        results = []
        for case in cases:
            rivals = (BURNISH, *SEARCHED) if given.search else contenders(case)
            results.append(compare(case, rivals, Path(folder), given.rounds, tokens[f"{case.size}-{case.data}"]))
            print_table(results[-1])
            if given.json:
                given.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
