"""PPO with a critic by Burnish and by TRL 1.10's PPOTrainer, the last one of TRL: the same models, prompts and updates.

    pip install --no-deps --target FOLDER trl==1.10.0
    python benchmarks/ppo_peers.py --trl FOLDER --json docs/pictures/ppo_peers.json
    python benchmarks/ppo_peers.py --trl FOLDER --only 15M --best "TRL, 4 rows, 16 in rollouts"

Llamas of 1 and 15 million parameters with random weights in float32: policy, reference, value model and reward model.
Prompts of 32 to 128 tokens, four responses of 64 tokens to each (no token ends one earlier), four passes over a batch
with one update each (TRL's defaults). `--responses 1` gives Burnish no prompt to share, `--minibatches 2` trains by
minibatches. First, TRL's fastest setting is searched (candidates: `peers/ppo_cases.py`); then both train in turn, each
in a process of its own with the same allocator. Printed are seconds per batch without the first, their parts, and the
peak of memory above the loaded models. Responses differ, since random numbers do; so Burnish computes TRL's first
update again from TRL's responses: scores of all models, advantages, returns, the loss of values and both gradient norms
must agree in four digits.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from peers.cases import Case
from peers.command import arguments, known_best, trained_as_contender
from peers.ppo_cases import BURNISH, CASES, EPOCHS, MINIBATCHES, PARTS, RESPONSES, SEARCHED, Shape
from peers.turns import Place, measure

BATCHES = 3
"""Of each process; the first warms up."""
SEARCH_BATCHES = 2
COLUMNS = ("", "s per batch", "burnish is", *PARTS, "rest", "MiB above the models", "burnish needs")


def make_material(chosen: Sequence[Case], place: Place, responses: int, batches: int) -> None:
    """Models and prompts of all cases, and prompts for the search."""
    from peers.ppo_material import save_models, write_prompts

    for case in chosen:
        save_models(place.model(case.size), case.size)
        write_prompts(place.rows(case), case, responses, batches)
        write_prompts(place.rows(case, searching=True), case, responses, SEARCH_BATCHES)


def print_table(result: dict[str, Any]) -> None:
    """Prints the table of docs/benchmarks.md: speed and memory of Burnish relative to TRL, and their differences."""
    print(f"\n**{result['case']}**, {result['responses_per_batch']} responses a batch\n")
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    ours = result["contenders"][BURNISH.name]
    for name, each in result["contenders"].items():
        parts = " | ".join(f"{each[part]:.2f}" for part in (*PARTS, "rest"))
        print(
            f"| {name} | {each['seconds_per_step']:.2f} | {each['seconds_per_step'] / ours['seconds_per_step']:.2f}× "
            f"| {parts} | {each['beyond_mib']:,.0f} | {ours['beyond_mib'] / each['beyond_mib']:.2f}× |",
            flush=True,
        )
    for name, each in result["contenders"].items():
        if gaps := each.get("apart"):
            found = ", ".join(f"{what} {gap:.0e}" for what, gap in gaps.items())
            print(f"\n{name}, first update computed again by burnish; relative differences: {found}", flush=True)


def run(chosen: Sequence[Case], place: Place, given: argparse.Namespace, shape: Shape) -> None:
    """Searches for TRL's best setting unless it is known, compares, and prints."""
    from peers.ppo_turns import compare_ppo, search_ppo

    known = None if given.best is None else shape.of(given.best)
    measure(
        chosen,
        given.json,
        seek=lambda case: (known, {}) if known else search_ppo(case, place, shape),
        compare=lambda case, best: compare_ppo(case, (shape.of(BURNISH), best), place, given.rounds),
        tell=print_table,
    )


def main() -> None:
    """Prints tables and writes the figures; or, in a contender's own process, trains and prints what it measured."""
    parser = arguments(__doc__, rounds=2, steps=BATCHES)
    parser.add_argument("--trl", type=Path, help="the folder with TRL 1.10")
    parser.add_argument("--rows", type=int, help="responses of a batch; default: by size (`peers/ppo_cases.py`)")
    parser.add_argument("--responses", type=int, default=RESPONSES, help="responses to each prompt")
    parser.add_argument("--minibatches", type=int, default=MINIBATCHES, help=f"updates of each of {EPOCHS} passes")
    given = parser.parse_args()
    from peers.ppo_turns import train_ppo_here

    if trained_as_contender(given, train_ppo_here):
        return
    if given.trl is None or not (given.trl / "trl").is_dir():
        parser.error("--trl is needed: pip install --no-deps --target FOLDER trl==1.10.0")
    given.best = next(iter(known_best(parser, given, SEARCHED, from_shared=False)), None)
    chosen = [replace(case, per_step=given.rows or case.per_step) for case in CASES if given.only in case.name]
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), given.trl.resolve())
        make_material(chosen, place, given.responses, given.steps)
        run(chosen, place, given, Shape(given.responses, given.minibatches))


if __name__ == "__main__":
    main()
