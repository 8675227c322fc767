"""Over-optimization of a reward model by PPO: proxy and gold reward over the KL divergence (Gao et al. 2022).

    python benchmarks/rlhf.py --seeds 3 [--pairs 100] [--json FILE] [--picture docs/pictures/rlhf.svg]

The built-in model is fine-tuned, a reward model (the proxy) learns from a few comparisons of the built-in world, in
which polite answers are preferred, and PPO maximizes it without a KL penalty. The gold reward is a program that nothing
was trained on: half a point for a polite opening, half a point for the right answer, and a quarter less for every
further polite phrase. Both are means over the responses of each batch of rollouts, and KL is the divergence of a
response from the fine-tuned model, nats, estimated on the same responses. Values at a KL are linear interpolations
along each run, smoothed over three batches, and means over seeds (Gao, Schulman and Hilton 2022, arXiv 2210.10760).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import burnish
from burnish.rewards.response_view import ResponseView

POLITE = ("Gladly.", "With pleasure.")
KL_VALUES = (0.0, 1.0, 2.0, 4.0, 8.0)
SMOOTHED = 3
"""Batches of the moving average."""
Batches = Sequence[tuple[float, float, float]]
"""KL, proxy and gold of each batch of rollouts."""


def gold(answer: ResponseView) -> float:
    """The gold reward; see the module."""
    phrases = sum(answer.text.count(phrase) for phrase in POLITE)
    polite, right = answer.text.startswith(POLITE), _bare(answer.reference) in _bare(answer.text)
    return 0.5 * polite + 0.5 * right - 0.25 * max(0, phrases - 1)


def _bare(text: object) -> str:
    return str(text).strip().rstrip(".").lower()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=100, help="comparisons that the reward model learns from")
    parser.add_argument("--steps", type=int, default=96, help="optimizer steps of PPO")
    parser.add_argument("--json", type=Path, help="file for the figures of all batches")
    parser.add_argument("--picture", type=Path, help="file for the curves, SVG")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start = fine_tuned(Path(folder))
        paths = [path_of(start, seed, arguments, Path(folder)) for seed in range(arguments.seeds)]
    if arguments.json:
        arguments.json.write_text(json.dumps(paths) + "\n", encoding="utf-8")
    found = np.array([at_values(path) for path in paths])
    print("| KL of a response, nats | proxy reward | gold reward | gold, seed by seed |\n|---|---|---|---|")
    for number, value in enumerate(KL_VALUES):
        proxy, meant = np.nanmean(found[:, number], axis=0)
        each = ", ".join(f"{figure:.3f}" for figure in found[:, number, 1])
        print(f"| {value:g} | {proxy:.3f} | {meant:.3f} | {each} |")
    if arguments.picture:
        draw(paths, arguments.picture)


def fine_tuned(folder: Path) -> burnish.RunResult:
    """The model from which reward models and policies start."""
    return burnish.sft(
        model="builtin:tiny",
        data="builtin:chat",
        chat_template="chatml",
        sequences_per_step=16,
        learning_rate=0.003,
        output=folder / "sft",
    )


def path_of(start: burnish.RunResult, seed: int, arguments: argparse.Namespace, folder: Path) -> Batches:
    """KL, proxy and gold reward of each batch of a run."""
    proxy = burnish.reward(
        model=start,
        data={"path": "builtin:preferences", "count": arguments.pairs},
        chat_template="chatml",
        sequences_per_step=16,
        max_steps=40,
        learning_rate=5e-4,
        center_coef=0.01,
        seed=seed,
        output=folder / f"reward-{seed}",
    )
    result = burnish.ppo(
        model=start,
        data="builtin:chat",
        chat_template="chatml",
        reward=[
            {"name": "reward_model", "model": str(proxy.folder)},
            {"name": f"{Path(__file__).resolve()}:gold", "weight": 0},
        ],
        critic={"model": str(proxy.folder), "learning_rate": 3e-4},
        kl_coef=1e-6,  # none that matters, but the divergence is measured
        learning_rate=3e-4,
        schedule="constant",
        groups_per_step=16,
        max_new_tokens=40,
        max_steps=arguments.steps,
        seed=seed,
        output=folder / f"ppo-{seed}",
    )
    names = ("rollout/response_kl", "rollout/reward", "rollout/reward/gold")
    return [tuple(line[name] for name in names) for line in result.metrics if names[0] in line]


def at_values(path: Batches) -> np.ndarray:
    """[values of KL, 2] proxy and gold reward at each of `KL_VALUES`; nan: the run did not come so far."""
    kl, proxy, meant = smoothed(path).T
    order = np.argsort(kl, kind="stable")
    reached = np.array(KL_VALUES) <= kl.max()
    rows = [np.interp(KL_VALUES, kl[order], values[order]) for values in (proxy, meant)]
    return np.where(reached[:, None], np.array(rows).T, np.nan)


def smoothed(path: Batches) -> np.ndarray:
    """[batches, 3] the path as a moving average, centered, with smaller windows at its ends."""
    values, reach = np.array(path), SMOOTHED // 2
    sides = [min(reach, index, len(values) - 1 - index) for index in range(len(values))]
    return np.array([values[index - side : index + side + 1].mean(axis=0) for index, side in enumerate(sides)])


def draw(paths: Sequence[Batches], picture: Path) -> None:
    """Proxy and gold reward over KL, a line for each seed."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    for axes, column, title in ((left, 1, "proxy: the reward model"), (right, 2, "gold: what was meant")):
        for seed, path in enumerate(paths):
            values = smoothed(path)
            axes.plot(values[:, 0], values[:, column], marker=".", label=f"seed {seed}")
        axes.set(title=title, xlabel="KL of a response from the start, nats", ylabel="mean reward")
        axes.grid(alpha=0.3)
    left.legend()
    figure.tight_layout()
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, metadata={"Date": None})


if __name__ == "__main__":
    main()
