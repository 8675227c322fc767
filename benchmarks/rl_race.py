"""Reinforcement learning on the built-in arithmetic, Burnish and TRL: held-out accuracy against seconds of training.

    python benchmarks/rl_race.py --seeds 0 1 2 3 4 --json docs/pictures/rl_race.json --picture docs/pictures/rl_race.png

The built-in model is fine-tuned once (`burnish sft`, the first stage of recipes/rlvr-math.yaml); then both train
by GRPO on arithmetic from these weights, each seed in a process of its own: eight responses to eight prompts a step, 30
steps, learning rate 1e-4, one update, no KL term, float32, the same verifier. Every ten steps 200 held-out questions
are answered greedily, while the clock is stopped; it counts processor seconds (of reward workers too), so that with
OMP_NUM_THREADS=1 other work of the machine does not matter. Seeds that the JSON has are not run again.
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
    """Folder of the initial model, fine-tuned if it is not there."""
    if not (folder / "model").exists():
        settings = ["--model", "builtin:tiny", "--data", "builtin:chat", "--output", str(folder)]
        overrides = ["chat_template=chatml", "sequences_per_step=16", "learning_rate=0.003"]
        subprocess.run([sys.executable, "-m", "burnish", "sft", *settings, *overrides], check=True)
    return folder / "model"


def run_here(name: str, model: Path, seed: int) -> None:
    """Trains in this process; prints the curve."""
    from peers.race import RUNNERS

    with tempfile.TemporaryDirectory() as output:
        print(json.dumps(RUNNERS[name](model, seed, Path(output) / "run").as_json()))


def run_apart(name: str, model: Path, seed: int) -> dict[str, list[float]]:
    """Curve of one seed, trained in a process of its own."""
    command = [sys.executable, __file__, "--runner", json.dumps([name, str(model), seed])]
    done = subprocess.run(
        command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def print_table(curves_of: dict[str, dict[str, dict[str, list[float]]]]) -> None:
    """Prints means over seeds, with the lowest and the highest."""
    print("| | seeds | accuracy before | after | processor seconds |\n|---|---|---|---|---|")
    for name, curves in curves_of.items():
        first, last, seconds = ([curve[key][at] for curve in curves.values()] for key, at in
                                (("accuracy", 0), ("accuracy", -1), ("seconds", -1)))  # fmt: skip
        print(
            f"| {name} | {len(curves)} | {mean(first):.1%} | {mean(last):.1%} ({min(last):.1%} to {max(last):.1%}) "
            f"| {mean(seconds):.0f} ({min(seconds):.0f} to {max(seconds):.0f}) |"
        )


def draw(curves_of: dict[str, dict[str, dict[str, list[float]]]], path: Path) -> None:
    """Plots accuracy against seconds, and against steps: a thin line for each seed, a thick one for their mean."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True, layout="constrained")
    for axes, axis in zip(panels, ("seconds", "steps"), strict=True):
        for (name, curves), colour in zip(curves_of.items(), COLOURS, strict=False):
            for curve in curves.values():
                axes.plot(curve[axis], curve["accuracy"], color=colour, alpha=0.3, linewidth=0.8)
            along, accuracy = ([mean(values) for values in zip(*(c[key] for c in curves.values()), strict=True)]
                               for key in (axis, "accuracy"))  # fmt: skip
            axes.plot(along, accuracy, color=colour, linewidth=2, marker="o", markersize=3, label=name)
        axes.set_xlabel("processor seconds of training" if axis == "seconds" else axis)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("held-out accuracy")
    panels[0].legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--json", type=Path, help="file of results; its seeds are not run again")
    parser.add_argument("--picture", type=Path, help="file of the plot")
    parser.add_argument("--start", type=Path, default=Path("runs/rl_race"), help="the folder of the fine-tuning")
    parser.add_argument("--runner", help=argparse.SUPPRESS)  # of a run's own process
    options = parser.parse_args()
    if options.runner:
        name, model, seed = json.loads(options.runner)
        run_here(name, Path(model), seed)
        return
    curves_of = (
        json.loads(options.json.read_text()) if options.json and options.json.exists() else {name: {} for name in NAMES}
    )
    model = fine_tuned(options.start)
    for seed in options.seeds:
        for name in NAMES:
            if str(seed) in curves_of[name]:
                continue
            curves_of[name][str(seed)] = run_apart(name, model, seed)
            print(name, seed, curves_of[name][str(seed)], flush=True)
            if options.json:
                options.json.write_text(json.dumps(curves_of, indent=1) + "\n", encoding="utf-8")
    print_table(curves_of)
    if options.picture:
        draw(curves_of, options.picture)


if __name__ == "__main__":
    main()
