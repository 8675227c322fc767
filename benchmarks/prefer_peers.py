"""Direct preference optimization by Burnish and by TRL's DPOTrainer: the same weights, pairs, order, optimizer, type.

    python benchmarks/prefer_peers.py --shared ../shared --only 15M --json docs/pictures/prefer_peers.json
    python benchmarks/prefer_peers.py --sharing --picture docs/pictures/sharing.png

Llamas of 1, 15 and 100 million parameters with random weights; pairs of HH-RLHF (helpful-base, split test, 30 to 1 000
tokens each), and long prompts made of the same text (200 to 600 tokens, answers of 40 to 120); full weights or LoRA.
First, TRL's fastest setting is searched (candidates: `peers/pair_cases.py`). Then all train in turn, each in
a process of its own with the same allocator: Burnish and TRL's best, with the reference computed in each step and
computed once before, and TRL with its defaults. The losses and log-probabilities of the first two steps must agree in
four digits (but for TRL's defaults, which compute in bfloat16), else nothing is printed. Medians over rounds: *useful*
tokens per second and per processor second (those of both conversations of a pair, so a prompt counts twice; padding
does not count), without the first step; the peak of memory above the loaded policy, a second model and a precomputation
included; seconds to the end of the first step, with all preparation. Every contender is
compared with Burnish with the same kind of reference.

`--sharing` compares Burnish with itself with prompts computed twice, and with the prediction from operations, over the
share of the prompt.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from peers.cases import ENVIRONMENT, Case, Contender
from peers.command import arguments, known_best, trained_as_contender
from peers.pair_cases import COMPUTED, DEFAULTS, ONCE, cases, precomputed, searched
from peers.pair_turns import compare_pairs, print_table, search_pairs, train_pairs_here
from peers.turns import Place, measure

STEPS = 3
"""Of each process; the first warms up."""
SEARCH_STEPS = 2


def make_material(chosen: Sequence[Case], place: Place, shared: Path, steps: int) -> None:
    """Models and pairs of all cases, and pairs for the search."""
    from peers.material import save_model
    from peers.pairs import write_pairs

    os.environ["BURNISH_CACHE"] = str(place.folder / "cache")
    for size in dict.fromkeys(case.size for case in chosen):
        save_model(place.model(size), size, shared)
    for case in chosen:
        write_pairs(place.rows(case), case, place.model(case.size), steps, shared)
        write_pairs(place.rows(case, searching=True), case, place.model(case.size), SEARCH_STEPS, shared)


def rivals(fastest: Contender, *, brief: bool) -> tuple[Contender, ...]:
    """All contenders that run in turn."""
    others = () if brief else (DEFAULTS,)
    return COMPUTED, fastest, *others, ONCE, precomputed(fastest)


def main() -> None:
    """Prints tables and writes the figures; or, in a contender's own process, trains and prints what it measured."""
    parser = arguments(__doc__, rounds=3, steps=STEPS)
    parser.add_argument("--adapter", choices=("full", "lora"), default="full")
    parser.add_argument("--brief", action="store_true", help="without TRL's defaults")
    parser.add_argument("--loss", choices=("dpo", "kto"), default="dpo")
    parser.add_argument("--sharing", action="store_true", help="gain of sharing prompts alone, at --only (15M)")
    parser.add_argument("--picture", type=Path, help="file of the plot of --sharing")
    given = parser.parse_args()
    if trained_as_contender(given, train_pairs_here):
        return
    if given.sharing:
        if ENVIRONMENT.items() - os.environ.items():  # an allocator is chosen when a process begins
            os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ENVIRONMENT})
        from peers.sharing import print_gains

        print_gains(given.only or "15M", given.rounds, given.picture)
        return
    known = next(iter(known_best(parser, given, searched(given.loss))), None)
    chosen = [case for case in cases(given.adapter, given.loss) if given.only in case.name]
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        make_material(chosen, place, given.shared, given.steps)
        measure(
            chosen,
            given.json,
            seek=lambda case: (known, {}) if known else search_pairs(case, place, searched(case.loss)),
            compare=lambda case, best: compare_pairs(case, rivals(best, brief=given.brief), place, given.rounds),
            tell=print_table,
        )


if __name__ == "__main__":
    main()
