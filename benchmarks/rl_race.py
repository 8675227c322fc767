"""Learning by trying on the built-in arithmetic, Burnish beside TRL: held-out accuracy against seconds of training.

    python benchmarks/rl_race.py --seeds 0 1 2 3 4 --json docs/pictures/rl_race.json --picture docs/pictures/rl_race.png

The built-in model is fine-tuned once (`burnish sft`, the first stage of recipes/rlvr-math.yaml); then both practise
arithmetic by GRPO from these weights, each seed in a process of its own: eight responses to eight prompts a step, 30
steps, learning rate 1e-4, one update, no divergence, float32, the same verifier. Every ten steps 200 held-out questions
are answered greedily, while the clock stands still; it counts processor seconds (of the processes that judge too), so
another user of the machine does not show with OMP_NUM_THREADS=1. Seeds that the JSON has are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean

NAMES = ("burnish", "TRL")
COLOURS = ("#b5541c", "#33658a")


def fine_tuned(folder: Path) -> Path:
    """The model that both begin with."""
    if not (folder / "model").exists():
        settings = ["--model", "builtin:tiny", "--data", "builtin:chat", "--output", str(folder)]
        given = ["chat_template=chatml", "sequences_per_step=16", "learning_rate=0.003"]
        subprocess.run([sys.executable, "-m", "burnish", "sft", *settings, *given], check=True)
    return folder / "model"


def run_here(name: str, model: Path, seed: int) -> None:
    """In this process; prints the curve."""
    from peers.race import RUNNERS

    with tempfile.TemporaryDirectory() as output:
        print(json.dumps(RUNNERS[name](model, seed, Path(output) / "run").as_json()))


def run_apart(name: str, model: Path, seed: int) -> dict[str, list[float]]:
    """The curve of one seed."""
    command = [sys.executable, __file__, "--runner", json.dumps([name, str(model), seed])]
    done = subprocess.run(
        command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def print_table(found: dict[str, dict[str, dict[str, list[float]]]]) -> None:
    """Means over seeds, and from lowest to highest."""
    print("| | seeds | accuracy before | after | processor seconds |\n|---|---|---|---|---|")
    for name, curves in found.items():
        first, last, seconds = ([curve[key][at] for curve in curves.values()] for key, at in
                                (("accuracy", 0), ("accuracy", -1), ("seconds", -1)))  # fmt: skip
        print(
            f"| {name} | {len(curves)} | {mean(first):.1%} | {mean(last):.1%} ({min(last):.1%} to {max(last):.1%}) "
            f"| {mean(seconds):.0f} ({min(seconds):.0f} to {max(seconds):.0f}) |"
        )


def draw(found: dict[str, dict[str, dict[str, list[float]]]], path: Path) -> None:
    """Accuracy against seconds, and against steps: a thin line for each seed, a thick one for their mean."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True, layout="constrained")
    for axes, what in zip(panels, ("seconds", "steps"), strict=True):
        for (name, curves), colour in zip(found.items(), COLOURS, strict=False):
            for curve in curves.values():
                axes.plot(curve[what], curve["accuracy"], color=colour, alpha=0.3, linewidth=0.8)
            along, accuracy = ([mean(values) for values in zip(*(c[key] for c in curves.values()), strict=True)]
                               for key in (what, "accuracy"))  # fmt: skip
            axes.plot(along, accuracy, color=colour, linewidth=2, marker="o", markersize=3, label=name)
        axes.set_xlabel("processor seconds of training" if what == "seconds" else what)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("held-out accuracy")
    panels[0].legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--json", type=Path, help="where the figures go; seeds that are there are kept")
    parser.add_argument("--picture", type=Path, help="where they are drawn")
    parser.add_argument("--start", type=Path, default=Path("runs/rl_race"), help="the folder of the fine-tuning")
    parser.add_argument("--runner", help=argparse.SUPPRESS)  # of a run's own process
    given = parser.parse_args()
    if given.runner:
        name, model, seed = json.loads(given.runner)
        run_here(name, Path(model), seed)
        return
    found = json.loads(given.json.read_text()) if given.json and given.json.exists() else {name: {} for name in NAMES}
    model = fine_tuned(given.start)
    for seed in given.seeds:
        for name in NAMES:
            if str(seed) in found[name]:
                continue
            found[name][str(seed)] = run_apart(name, model, seed)
            print(name, seed, found[name][str(seed)], flush=True)
            if given.json:
                given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print_table(found)
    if given.picture:
        draw(found, given.picture)


if __name__ == "__main__":
    main()
