"""Supervised fine-tuning by Burnish beside TRL's SFTTrainer: the same model, rows, optimiser, type and trained tokens.

    python benchmarks/sft_peers.py --shared ../shared --json docs/pictures/sft_peers.json

Llamas of 1, 15 and 100 million parameters with random weights, GSM8K and a long-tailed mixture of real rows (30 to 600
tokens), full weights, LoRA and QLoRA. First, TRL's fastest setting is sought for each size (`peers/cases.py` has those
that are tried). Then it, TRL in float32, TRL with its defaults and Burnish train in turn, each in a process of its own
with the same allocator; medians over rounds are told: tokens of rows per second (padding does not count), the same by
processor time, the peak of memory above the loaded model, seconds to the end of the first step, the share of the
matrix-multiply peak, and how far losses are apart. Figures go into the JSON after every case;
`python benchmarks/peers_picture.py` draws it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from peers.cases import BURNISH, CASES, DEFAULTS, PLAIN, SEARCHED, Case, Contender
from peers.turns import Figures, Found, Place, compare, measure, search, train_here

STEPS = 5
"""Of each process; the first warms up."""
SEARCH_STEPS = 2


def available(cases: list[Case]) -> list[Case]:
    """The cases that this Burnish can train; the others are told."""
    from peers.ours import has

    for case in cases:
        if not has(case.adapter):
            print(f"{case.name}: left out, since this burnish has no adapter of the kind {case.adapter}")
    return [case for case in cases if has(case.adapter)]


def make_material(cases: list[Case], place: Place, shared: Path, steps: int) -> None:
    """Models and rows of all cases, and rows for the search."""
    from peers.material import save_model, write_rows

    os.environ["BURNISH_CACHE"] = str(place.folder / "cache")
    for size in dict.fromkeys(case.size for case in cases):
        save_model(place.model(size), size, shared)
        case = Case(size, "mixture")
        write_rows(place.rows(case, searching=True), case, place.model(size), SEARCH_STEPS, shared)
    for case in {(case.size, case.data): case for case in cases}.values():
        write_rows(place.rows(case), case, place.model(case.size), steps, shared)


def print_table(result: dict[str, Any]) -> None:
    """As in docs/benchmarks.md: how many times as fast Burnish is, and what share of the memory it needs."""
    ours = result["contenders"][BURNISH.name]
    print(f"\n**{result['case']}**, matrix-multiply peak {result['matmul_peak'] / 1e9:.0f} GFLOP/s\n")
    columns = ("", "tokens/s", "burnish is", "by processor time", "of the peak", "MiB above the model", "burnish needs")
    print("| " + " | ".join((*columns, "s to step 1", "losses apart")) + " |\n|" + "---|" * (len(columns) + 2))
    for name, each in result["contenders"].items():
        ratio = ours["tokens_per_second"] / each["tokens_per_second"]
        cpu = ours["tokens_per_cpu_second"] / each["tokens_per_cpu_second"]
        apart = "other rows" if each["losses_apart"] is None else f"{each['losses_apart']:.0e}"
        print(
            f"| {name} | {each['tokens_per_second']:,.0f} | {ratio:.2f}× | {cpu:.2f}× | {each['of_peak']:.0%} "
            f"| {each['beyond_mib']:,.0f} | {ours['beyond_mib'] / each['beyond_mib']:.2f}× "
            f"| {each['first_step_seconds']:.0f} | {apart} |",
            flush=True,
        )


def seek(case: Case, place: Place) -> Found:
    """TRL's fastest setting for the size, on the mixture with full weights."""
    case = Case(case.size, "mixture")
    tokens = sum(place.tokens(case, searching=True))

    def rate(figures: Figures) -> float:
        return tokens / sum(figures["walls"])

    return search(case, SEARCHED, place, rate)


def main() -> None:
    """Prints tables and writes the figures; or, in a contender's own process, trains and prints what it measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, help="the folder with data/gsm8k, hh_rlhf, math500 and mbpp")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=STEPS, help="of each process; the first warms up")
    parser.add_argument("--only", default="", help="cases whose names contain this, such as 15M or 100M-mixture-lora")
    parser.add_argument("--best", help="TRL's fastest setting by an earlier search, such as 'TRL, padding-free, 4'")
    parser.add_argument("--contender", help=argparse.SUPPRESS)  # of a contender's own process
    given = parser.parse_args()
    if given.contender:
        case, contender, model, rows = json.loads(given.contender)
        print(json.dumps(train_here(Case(*case), Contender.of(contender), Path(model), Path(rows))))
        return
    if not given.shared:
        parser.error("--shared is needed: the rows are real")
    cases = available([case for case in CASES if given.only in case.name])
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        make_material(cases, place, given.shared, given.steps)
        known = next((each for each in SEARCHED if each.name == given.best), None)
        if given.best and known is None:
            parser.error(f"--best is one of: {'; '.join(each.name for each in SEARCHED)}")
        measure(
            cases,
            given.json,
            seek=lambda case: (known, {}) if known else seek(case, place),
            compare=lambda case, best: compare(case, (BURNISH, best, PLAIN, DEFAULTS), place, given.rounds),
            tell=print_table,
        )


if __name__ == "__main__":
    main()
