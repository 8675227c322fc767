"""Supervised fine-tuning by Burnish and by TRL's SFTTrainer: the same model, rows, optimizer, type and trained tokens.

    python benchmarks/sft_peers.py --shared ../shared --json docs/pictures/sft_peers.json

Llamas of 1, 15 and 100 million parameters with random weights, GSM8K and a long-tailed mixture of real rows (30 to 600
tokens), full weights, LoRA and QLoRA. First, TRL's fastest settings in float32 and in bfloat16 are searched for each
size (candidates: `peers/cases.py`). Then they and Burnish in both types train in turn (for full weights on the
mixture, also TRL in padded float32 and with its defaults), each in a process of its own with the same allocator;
medians over rounds are printed: tokens of rows per second (padding does not count), the same by processor time, the
peak of memory above the loaded model, seconds to the end of the first step, the share of the float32 matrix-multiply
peak, and the difference of losses. A contender is compared with Burnish in its own type. Results are written to the
JSON after every case; `python benchmarks/peers_picture.py` draws it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from peers.cases import BURNISH, BURNISH_BFLOAT16, CASES, DEFAULTS, PLAIN, SEARCHED, Case, Contender
from peers.command import arguments, known_best, trained_as_contender
from peers.turns import Figures, Found, Place, compare, measure, search, train_here

STEPS = 5
"""Of each process; the first warms up."""
SEARCH_STEPS, SEARCH_ROWS = 2, 8
"""Of the search: steps, and rows of each."""


def available(cases: list[Case]) -> list[Case]:
    """Cases that this version of Burnish can train; prints the others."""
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
        case = Case(size, "mixture", per_step=SEARCH_ROWS)
        write_rows(place.rows(case, searching=True), case, place.model(size), SEARCH_STEPS, shared)
    for case in {(case.size, case.data): case for case in cases}.values():
        write_rows(place.rows(case), case, place.model(case.size), steps, shared)


def print_table(result: dict[str, Any]) -> None:
    """Prints the table of docs/benchmarks.md: speed and memory of Burnish relative to each contender in its type."""
    print(f"\n**{result['case']}**, matrix-multiply peak {result['matmul_peak'] / 1e9:.0f} GFLOP/s in float32\n")
    columns = ("", "tokens/s", "burnish is", "by processor time", "of the peak", "MiB above the model", "burnish needs")
    print("| " + " | ".join((*columns, "s to step 1", "losses apart")) + " |\n|" + "---|" * (len(columns) + 2))
    for name, each in result["contenders"].items():
        ours = result["contenders"][each["beside"]]
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
    case = Case(case.size, "mixture", per_step=SEARCH_ROWS)
    tokens = sum(place.tokens(case, searching=True))

    def rate(figures: Figures) -> float:
        return tokens / sum(figures["walls"])

    return search(case, SEARCHED, place, rate)


def rivals(case: Case, tried: dict[str, float]) -> list[Contender]:
    """Burnish and TRL's best in both types; on the mixture with full weights also TRL's plainer settings."""
    best = []
    for narrow in (False, True):
        if same := [each for each in SEARCHED if each.name in tried and each.narrow is narrow]:
            best.append(max(same, key=lambda each: tried[each.name]))
    plainer = (PLAIN, DEFAULTS) if (case.data, case.adapter) == ("mixture", "full") else ()
    return [BURNISH, BURNISH_BFLOAT16, *best, *plainer]


def main() -> None:
    """Prints tables and writes the figures; or, in a contender's own process, trains and prints what it measured."""
    parser = arguments(__doc__, rounds=3, steps=STEPS)
    given = parser.parse_args()
    if trained_as_contender(given, train_here):
        return
    known = known_best(parser, given, SEARCHED)
    cases = available([case for case in CASES if given.only in case.name])
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        make_material(cases, place, given.shared, given.steps)
        searched: dict[str, Found] = {}

        def seek_once(case: Case) -> Found:
            searched[case.size] = (known[0], {each.name: 1.0 for each in known}) if known else seek(case, place)
            return searched[case.size]

        measure(
            cases,
            given.json,
            seek=seek_once,
            compare=lambda case, _: compare(case, rivals(case, searched[case.size][1]), place, given.rounds),
            tell=print_table,
        )


if __name__ == "__main__":
    main()
