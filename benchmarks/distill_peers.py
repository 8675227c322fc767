"""On-policy distillation by Burnish and by TRL's DistillationTrainer: the same weights, prompts, order and optimizer.

    python benchmarks/distill_peers.py --shared ../shared --json docs/pictures/distill_peers.json
    python benchmarks/distill_peers.py --shared ../shared --best "TRL, float32, 2" --brief --divergence "reverse KL"

A Llama of 15 million parameters learns from one of 100 million, both with random weights and the same tokenizer of
32 000 tokens; prompts of 32 to 256 tokens of real text, four responses of 128 tokens to each (no token ends one
earlier, so all generate and train the same number of tokens); one update for each batch; the reverse KL and the JSD
with β = 0.5, over the whole vocabulary. First, TRL's fastest setting is searched (candidates:
`peers/distill_cases.py`). Then Burnish in float32 and in bfloat16, TRL's best and TRL with its defaults train in turn,
each in a process of its own with the same allocator; all are compared with Burnish in float32, in which TRL trains
whatever `bf16` says. Printed are seconds per step without the first, of the whole and of training (all but sampling),
tokens of responses per second, and the peak of memory above both loaded models. Responses differ, since random numbers
do; so TRL's first step is computed again by plain forwards with full logits, and its loss and gradient norm must agree
in four digits. `--theirs` leaves Burnish out. Results of each divergence have a file of their own, with its name before
`.json`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from peers.cases import BURNISH_BFLOAT16, Case, Contender
from peers.command import arguments, known_best, trained_as_contender
from peers.distill_cases import BETAS, BURNISH, CASES, DEFAULTS, PARTS, SEARCHED, TEACHERS
from peers.turns import Found, Place, measure

STEPS = 3
"""Of each process; the first warms up."""
SEARCH_STEPS = 1
HEAD = ("", "s per step", "burnish is", "tokens/s", "s of training", "burnish is", "tokens/s")
COLUMNS = (*HEAD, *PARTS, "rest", "MiB above the models", "burnish needs", "apart")


def make_material(chosen: Sequence[Case], place: Place, shared: Path, steps: int) -> None:
    """Students, teachers and prompts of all cases, and prompts for the search."""
    from peers.material import save_model
    from peers.rl_prompts import write_prompts

    os.environ["BURNISH_CACHE"] = str(place.folder / "cache")
    for case in chosen:
        for size in (case.size, TEACHERS[case.size]):
            save_model(place.model(size), size, shared)
        write_prompts(place.rows(case), case, place.model(case.size), steps, shared)
        write_prompts(place.rows(case, searching=True), case, place.model(case.size), SEARCH_STEPS, shared)


def print_table(result: dict[str, Any]) -> None:
    """Prints the table of docs/benchmarks.md: speed and memory of Burnish relative to each contender."""
    print(f"\n**{result['case']}**, beta {result['beta']}, {result['responses_per_step']} responses a step\n")
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for name, each in result["contenders"].items():
        ours = result["contenders"].get(BURNISH.name)
        parts = " | ".join(f"{each[part]:.2f}" for part in (*PARTS, "rest"))
        times = [
            f"{each[whole]:.2f} | {_ratio(each, ours, whole)} | {each[rate]:,.0f}"
            for whole, rate in (("seconds_per_step", "tokens_per_second"), ("training", "trained_per_second"))
        ]
        apart = f"{max(each.get('losses_apart', 0.0), each.get('norms_apart', 0.0)):.0e}"
        memory = f"{each['beyond_mib']:,.0f} | {_ratio(ours, each, 'beyond_mib')}"
        print(f"| {name} | {' | '.join(times)} | {parts} | {memory} | {apart} |", flush=True)


def _ratio(above: dict[str, Any] | None, below: dict[str, Any] | None, name: str) -> str:
    """How many times as large; nothing if one of both did not take part."""
    return f"{above[name] / below[name]:.2f}×" if above and below else ""


def run(chosen: Sequence[Case], place: Place, given: argparse.Namespace, known: Contender | None) -> None:
    """Searches for TRL's best setting unless it is known, compares with each divergence, and prints."""
    from peers.distill_turns import compare_distill, search_distill

    @cache
    def seek(case: Case) -> Found:
        return (known, {}) if known else search_distill(case, place)

    ours = () if given.theirs else (BURNISH, BURNISH_BFLOAT16)
    others = () if given.brief else (DEFAULTS,)
    for name in [given.divergence] if given.divergence else BETAS:

        def compare(case: Case, best: Contender, beta: float = BETAS[name]) -> dict[str, Any] | None:
            return compare_distill(case, (*ours, best, *others), beta, place, given.rounds)

        measure(chosen, _file_of(name, given.json), seek=seek, compare=compare, tell=print_table)


def _file_of(divergence: str, path: Path | None) -> Path | None:
    """The file of a divergence's results; None: none."""
    return path and path.with_stem(f"{path.stem}_{divergence.replace(' ', '_').lower()}")


def main() -> None:
    """Prints tables and writes the figures; or, in a contender's own process, trains and prints what it measured."""
    parser = arguments(__doc__, rounds=2, steps=STEPS)
    parser.add_argument("--search", action="store_true", help="only search for TRL's fastest setting")
    parser.add_argument("--brief", action="store_true", help="without TRL's defaults")
    parser.add_argument("--theirs", action="store_true", help="without Burnish")
    parser.add_argument("--divergence", choices=tuple(BETAS), help="only this one")
    parser.add_argument("--prompts", type=int, help="prompts of a step; default: by size (`peers/distill_cases.py`)")
    given = parser.parse_args()
    from peers.distill_turns import train_distill_here

    if trained_as_contender(given, train_distill_here):
        return
    known = next(iter(known_best(parser, given, SEARCHED)), None)
    chosen = [replace(case, per_step=given.prompts or case.per_step) for case in CASES if given.only in case.name]
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        make_material(chosen, place, given.shared, given.steps)
        if given.search:
            from peers.distill_turns import search_distill

            print({case.name: search_distill(case, place)[0].name for case in chosen})
            return
        run(chosen, place, given, known)


if __name__ == "__main__":
    main()
