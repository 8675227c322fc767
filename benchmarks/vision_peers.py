"""Training on images by Burnish and by TRL's SFTTrainer, DPOTrainer and GRPOTrainer: the same weights, rows and order.

    python benchmarks/vision_peers.py --json docs/pictures/vision_peers.json
    python benchmarks/vision_peers.py --only rl --rounds 1

The model is the built-in one (2.3 million parameters, all of them trained, the vision tower too), the rows are those of
the built-in sets of drawn shapes, as they are. First, TRL's fastest setting is searched (`peers/images.py`), then
Burnish, TRL's best and TRL with its defaults train in turn, each in a process of its own with the same allocator. GRPO
samples 8 responses of 128 tokens to each prompt, which no token ends earlier. Printed are seconds per step without the
first, the peak of memory above the loaded model, and the seconds to the end of the first step. The losses of the first
two steps must agree in four digits where TRL computes in float32, and those of DPO's chosen answers too; of GRPO,
Burnish computes TRL's first step again from TRL's responses, and its gradient's norm must agree.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path

from peers.command import trained_as_contender
from peers.turns import Place

STEPS = 4
"""Of each process; the first warms up."""
SEARCH_STEPS = 2


def main() -> None:
    """Prints tables and writes the figures; or, in a contender's own process, trains and prints what it measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file of results")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="sft, prefer or rl")
    parser.add_argument("--brief", action="store_true", help="without TRL's defaults")
    parser.add_argument("--best", help="TRL's fastest setting from an earlier search, such as 'TRL, float32, 8'")
    parser.add_argument("--contender", help=argparse.SUPPRESS)  # of a contender's own process
    given = parser.parse_args()
    from peers.image_turns import compare_images, print_table, train_images_here
    from peers.images import CASES, MODEL, write_rows

    if trained_as_contender(given, train_images_here):
        return
    results = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BURNISH_CACHE"] = str(Path(folder) / "cache")
        for method, case in CASES.items():
            if given.only not in method:
                continue
            place = Place(Path(folder) / method)
            place.folder.mkdir()
            shutil.copytree(MODEL, place.model(case.size))
            write_rows(place.rows(case), case, STEPS)
            write_rows(place.rows(case, searching=True), case, SEARCH_STEPS)
            results.append(compare_images(case, place, given.rounds, brief=given.brief, best=given.best))
            print_table(results[-1])
            if given.json is not None:
                given.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
