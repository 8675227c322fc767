"""Gain of reinforcement learning over a fine-tuned model, seed by seed: held-out accuracy before and after, and time.

    python benchmarks/rl_learning.py recipes/rlvr-math.yaml --seeds 0 1 2 --output runs/rl-learning [rl.key=value ...]

Takes a recipe of two stages, `sft` and `rl`, and runs each stage by itself: so recipes with the same first stage share
its runs (OUTPUT/sft-SEED). `--model` is a base instead of the recipe's; sft.key=value or rl.key=value changes a stage.
Prints a Markdown table with intervals of 95 % (Wilson's), and the change over all seeds. `rl_curves.py` draws the runs.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import yaml

import burnish
from burnish.config.text import parse_overrides
from burnish.evaluate.preference_eval import Proportion, wilson_interval

HEAD = ("seed", "after SFT", "after RL", "entropy", "seconds SFT", "seconds RL")


def trained(method: Any, **settings: Any) -> tuple[Path, float]:
    """Trains a stage; returns its run folder and its seconds."""
    began = time.perf_counter()
    done = method(**settings)
    return done.folder, time.perf_counter() - began


def metric_values(run: Path, key: str) -> list[float]:
    """Values of a metric in the order of the steps."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [line[key] for line in lines if key in line]


def num_prompts(run: Path) -> int:
    """Held-out prompts that were answered at every evaluation."""
    lines = map(json.loads, (run / "samples.jsonl").read_text(encoding="utf-8").splitlines())
    return len({line["index"] for line in lines if "index" in line})


def shares(run: Path, prompts: int) -> tuple[Proportion, Proportion]:
    """Right answers to held-out prompts at the first and at the last evaluation."""
    accuracies = metric_values(run, "eval/accuracy")
    first, last = (wilson_interval(round(value * prompts), prompts) for value in (accuracies[0], accuracies[-1]))
    return first, last


def interval_text(share: Proportion) -> str:
    return f"{share.value:.1%} ({share.low:.1%}–{share.high:.1%})"


def change(pairs: list[tuple[Proportion, Proportion]]) -> str:
    """The mean gain over seeds, with its standard error over them."""
    gains = [100 * (after.value - before.value) for before, after in pairs]
    mean = sum(gains) / len(gains)
    if len(gains) == 1:
        return f"{mean:+.1f} points"
    deviation = math.sqrt(sum((gain - mean) ** 2 for gain in gains) / (len(gains) - 1))
    return f"{mean:+.1f} points, standard error {deviation / math.sqrt(len(gains)):.1f} over {len(gains)} seeds"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("runs/rl-learning"))
    parser.add_argument("--model", help="Another model than the recipe's.")
    parser.add_argument("settings", nargs="*", help="stage.key=value")
    given = parser.parse_intermixed_args()
    recipe = yaml.safe_load(given.recipe.read_text(encoding="utf-8"))
    stages = {name: settings for stage in recipe["stages"] for name, settings in stage.items()}
    for key, value in parse_overrides(given.settings).items():
        stage, _, name = key.partition(".")
        stages[stage][name] = value
    sft, rl, base = stages["sft"], stages["rl"], given.model or recipe["model"]
    print(f"| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}", flush=True)
    pairs = []
    for seed in given.seeds:
        sft_run, sft_seconds = trained(
            burnish.sft, model=base, output=str(given.output / f"sft-{seed}"), seed=seed, **sft
        )
        place = given.output / f"{given.recipe.stem}-{seed}"
        rl_run, rl_seconds = trained(burnish.rl, model=str(sft_run), output=str(place), seed=seed, **rl)
        pairs.append(shares(rl_run, num_prompts(rl_run)))
        entropy = metric_values(rl_run, "rollout/entropy")
        row = [
            seed,
            *map(interval_text, pairs[-1]),
            f"{entropy[0]:.2f} → {entropy[-1]:.2f}",
            f"{sft_seconds:.0f}",
            f"{rl_seconds:.0f}",
        ]
        print(f"| {' | '.join(map(str, row))} |", flush=True)
    print(f"\n{change(pairs)}")


if __name__ == "__main__":
    main()
