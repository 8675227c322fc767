"""GRPO by Burnish and by TRL's GRPOTrainer: the same weights, prompts, order, reward, optimizer and number of tokens.

    python benchmarks/rl_peers.py --shared ../shared --json docs/pictures/rl_peers.json
    python benchmarks/rl_peers.py --shared ../shared --only 15M --best "TRL, float32, 8"

Llamas of 1, 15 and 100 million parameters with random weights; prompts of 32 to 256 tokens of real text, eight
responses of 128 tokens to each (no token ends one earlier, so all generate and train the same number of tokens); one
update for each batch, no KL term, a cheap reward. First, TRL's fastest setting is searched (candidates:
`peers/rl_cases.py`). Then Burnish in float32 and in bfloat16, TRL's best and TRL with its defaults train in turn,
each in a process of its own with the same allocator; contenders are compared within the same type. Printed are
seconds per step without the first, their parts, and the peak of memory above the loaded model (that of Burnish's reward
workers separately). Responses differ, since random numbers do; so Burnish computes TRL's first step again from TRL's
responses, and advantages and the gradient norm must agree in four digits, where TRL computes in float32.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from peers.cases import BURNISH_BFLOAT16, Case, Contender
from peers.command import arguments, known_best, trained_as_contender
from peers.rl_cases import BURNISH, CASES, DEFAULTS, PARTS, SEARCHED
from peers.turns import Place, measure

STEPS = 3
"""Of each process; the first warms up."""
SEARCH_STEPS = 1
COLUMNS = ("", "s per step", "burnish is", *PARTS, "rest", "MiB above the model", "burnish needs", "apart")


def make_material(chosen: Sequence[Case], place: Place, shared: Path, steps: int) -> None:
    """Models and prompts of all cases, and prompts for the search."""
    from peers.material import save_model
    from peers.rl_prompts import write_prompts

    os.environ["BURNISH_CACHE"] = str(place.folder / "cache")
    for case in chosen:
        save_model(place.model(case.size), case.size, shared)
        write_prompts(place.rows(case), case, place.model(case.size), steps, shared)
        write_prompts(place.rows(case, searching=True), case, place.model(case.size), SEARCH_STEPS, shared)


def print_table(result: dict[str, Any]) -> None:
    """Prints the table of docs/benchmarks.md: speed and memory of Burnish relative to each contender."""
    print(f"\n**{result['case']}**, {result['prompts_per_step']} prompts a step\n")
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for name, each in result["contenders"].items():
        ours = result["contenders"][each["beside"]]
        parts = " | ".join(f"{each[part]:.2f}" for part in (*PARTS, "rest"))
        print(
            f"| {name} | {each['seconds_per_step']:.2f} | {each['seconds_per_step'] / ours['seconds_per_step']:.2f}× "
            f"| {parts} | {each['beyond_mib']:,.0f} | {ours['beyond_mib'] / each['beyond_mib']:.2f}× "
            f"| {each.get('norms_apart', 0.0):.0e} |",
            flush=True,
        )
    worker_mib = result["contenders"][BURNISH.name]["beside_mib"]
    print(f"\nreward workers, in addition: {worker_mib:,.0f} MiB", flush=True)


def run(chosen: Sequence[Case], place: Place, given: argparse.Namespace, known: Contender | None) -> None:
    """Searches for TRL's best setting unless it is known, compares, and prints."""
    from peers.rl_turns import compare_prompts, search_prompts

    ours, others = (BURNISH, BURNISH_BFLOAT16), () if given.brief else (DEFAULTS,)
    measure(
        chosen,
        given.json,
        seek=lambda case: (known, {}) if known else search_prompts(case, place),
        compare=lambda case, best: compare_prompts(case, (*ours, best, *others), place, given.rounds),
        tell=print_table,
    )


def main() -> None:
    """Prints tables and writes the figures; or, in a contender's own process, trains and prints what it measured."""
    parser = arguments(__doc__, rounds=1, steps=STEPS)
    parser.add_argument("--search", action="store_true", help="only search for TRL's fastest setting")
    parser.add_argument("--brief", action="store_true", help="without TRL's defaults")
    parser.add_argument("--prompts", type=int, help="prompts of a step; default: by size (`peers/rl_cases.py`)")
    given = parser.parse_args()
    from peers.rl_turns import train_prompts_here

    if trained_as_contender(given, train_prompts_here):
        return
    known = next(iter(known_best(parser, given, SEARCHED)), None)
    chosen = [replace(case, per_step=given.prompts or case.per_step) for case in CASES if given.only in case.name]
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        make_material(chosen, place, given.shared, given.steps)
        if given.search:
            from peers.rl_turns import search_prompts

            print({case.name: search_prompts(case, place)[0].name for case in chosen})
            return
        run(chosen, place, given, known)


if __name__ == "__main__":
    main()
