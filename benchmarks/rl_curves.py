"""Plots reinforcement learning runs: held-out accuracy, rewards, entropy and length over the steps of stages `rl`.

    python benchmarks/rl_curves.py docs/pictures/rl.png "arithmetic=runs/a,runs/b" "instructions=runs/c"

One row of panels for each NAME=RUN,RUN,…; runs (seeds) are thin lines, and their mean is a thick one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

COLOURS = ("#b5541c", "#33658a", "#7a8b3c", "#8a4f7d")
SMOOTH = 5
"""Steps of the running mean of training curves."""
PANELS = ("held-out accuracy", "reward of rollouts", "entropy, nats a token", "tokens of a response")

Points = tuple[list[int], list[float]]


def points(run: Path, key: str) -> Points:
    """Steps and values of a metric in the stage `rl` of a run."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    pairs = [(line["step"], line[key]) for line in lines if line["stage"] == "rl" and key in line]
    return [step for step, _ in pairs], [value for _, value in pairs]


def reward_metrics(run: Path) -> list[str]:
    """Names of the reward metrics; of a single one, the reward."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    keys = {key for line in lines for key in line if key.startswith("rollout/reward/")}
    return sorted(keys) if len(keys) > 1 else ["rollout/reward"]


def smoothed(values: Sequence[float]) -> list[float]:
    """The mean of each value and those before it, at most `SMOOTH`."""
    return [float(np.mean(values[max(0, end - SMOOTH) : end])) for end in range(1, len(values) + 1)]


def draw_metric(axes: Axes, runs: Sequence[Path], key: str, colour: str, label: str = "") -> None:
    """Draws a metric of training: every run thin, their mean thick."""
    lines = [(steps, smoothed(values)) for steps, values in (points(run, key) for run in runs) if steps]
    if not lines:
        return
    for steps, values in lines:
        axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.4)
    shortest = min(len(steps) for steps, _ in lines)
    mean = np.mean([values[:shortest] for _, values in lines], axis=0)
    axes.plot(lines[0][0][:shortest], mean, color=colour, linewidth=1.8, label=label)


def draw_held_out(axes: Axes, runs: Sequence[Path], colour: str) -> None:
    """Draws held-out accuracy: every run thin, their mean thick."""
    lines = [points(run, "eval/accuracy") for run in runs]
    for steps, values in lines:
        axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.5, marker="o", markersize=3)
    values = np.array([values for _, values in lines])
    axes.plot(lines[0][0], values.mean(axis=0), color=colour, linewidth=1.8)
    axes.set_ylim(bottom=0)


def draw_row(row: Sequence[Axes], name: str, runs: Sequence[Path]) -> None:
    held_out, reward, entropy, length = row
    draw_held_out(held_out, runs, COLOURS[0])
    keys = reward_metrics(runs[0])
    for key, colour in zip(keys, COLOURS, strict=False):
        draw_metric(reward, runs, key, colour, key.removeprefix("rollout/reward").removeprefix("/"))
    if len(keys) > 1:
        reward.legend(fontsize=7, frameon=False)
    draw_metric(entropy, runs, "rollout/entropy", COLOURS[1])
    draw_metric(length, runs, "rollout/response_length", COLOURS[1])
    for axes, title in zip(row, PANELS, strict=True):
        axes.set_title(f"{name}: {title}", fontsize=8, loc="left")
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("step", fontsize=7)
    for axes in (entropy, length):
        axes.set_ylim(bottom=0)


def main(target: Path, rows: Mapping[str, Sequence[Path]]) -> None:
    figure, panels = plt.subplots(len(rows), 4, figsize=(13, 2.5 * len(rows)), squeeze=False, layout="constrained")
    for row, (name, runs) in zip(panels, rows.items(), strict=True):
        draw_row(row, name, runs)
    figure.savefig(target, dpi=100)


if __name__ == "__main__":
    given = (argument.partition("=") for argument in sys.argv[2:])
    main(Path(sys.argv[1]), {name: [Path(run) for run in runs.split(",")] for name, _, runs in given})
