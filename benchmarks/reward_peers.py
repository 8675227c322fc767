"""Reward models by Burnish and by TRL's RewardTrainer: the same weights and head, pairs, order, optimizer, type.

    python benchmarks/reward_peers.py --shared ../shared --only 15M --json docs/pictures/reward_peers.json

Llamas of 15 and 100 million parameters with random weights and one value head, saved once; pairs of HH-RLHF
(helpful-base, split test, 30 to 1 000 tokens each); Bradley–Terry without options; full weights. First, TRL's fastest
setting is searched (candidates: `peers/reward_cases.py`). Then all train in turn, with the measurements of
`prefer_peers.py`. Losses and mean rewards of the first two steps must agree in four digits where TRL computes
in float32.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from peers.cases import Case
from peers.command import arguments, known_best, trained_as_contender
from peers.pair_turns import compare_pairs, print_table, search_pairs, train_rewards_here
from peers.reward_cases import BURNISH, CASES, DEFAULTS, SEARCHED
from peers.turns import Place, measure

STEPS = 3
"""Of each process; the first warms up."""
SEARCH_STEPS = 2


def make_material(chosen: Sequence[Case], place: Place, shared: Path, steps: int) -> None:
    """Pairs of all cases and of the search, and reward models."""
    from peers.material import save_model, save_reward_model
    from peers.pairs import write_pairs

    os.environ["BURNISH_CACHE"] = str(place.folder / "cache")
    for case in chosen:
        model = place.model(case.size)
        save_model(model, case.size, shared)
        write_pairs(place.rows(case), case, model, steps, shared)
        write_pairs(place.rows(case, searching=True), case, model, SEARCH_STEPS, shared)
        save_reward_model(model)


def main() -> None:
    """Prints tables and writes the figures; or, in a contender's own process, trains and prints what it measured."""
    parser = arguments(__doc__, rounds=1, steps=STEPS)
    given = parser.parse_args()
    if trained_as_contender(given, train_rewards_here):
        return
    known = next(iter(known_best(parser, given, SEARCHED)), None)
    chosen = [case for case in CASES if given.only in case.name]
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        make_material(chosen, place, given.shared, given.steps)
        measure(
            chosen,
            given.json,
            seek=lambda case: (known, {}) if known else search_pairs(case, place, SEARCHED),
            compare=lambda case, best: compare_pairs(case, (BURNISH, best, DEFAULTS), place, given.rounds),
            tell=print_table,
        )


if __name__ == "__main__":
    main()
