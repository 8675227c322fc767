"""Settings of PPO compared on the built-in arithmetic: held-out reward after equal numbers of responses.

    python benchmarks/ppo_settings.py [--seeds 3] [--only NAME …]

The built-in model is fine-tuned on conversations, then trained by PPO on arithmetic questions with the reward `number`.
Each variant changes one setting of the base; all generate the same number of responses, and several epochs over a batch
mean more steps. Prints a Markdown table: held-out reward (greedy) and its spread over seeds, explained variance of the
critic in the last batches, and KL of a response from the start. The defaults of the stage ppo were chosen by it
(docs/benchmarks.md).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import burnish

BATCHES, PROMPTS = 16, 32
"""Batches of rollouts of a run, and prompts of a batch."""
BASE: Mapping[str, Any] = {
    "minibatches_per_epoch": 2,
    "epochs_per_batch": 2,
    "learning_rate": 1e-4,
    "critic": {"learning_rate": 3e-4},
    "kl_coef": 0.01,
}
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "base": {},
    "critic_lambda 0.95": {"gae": {"critic_lambda": 0.95}},
    "gae_lambda 1": {"gae": {"gae_lambda": 1.0}},
    "gae_lambda 0.9": {"gae": {"gae_lambda": 0.9}},
    "length-adaptive, alpha 0.2": {"gae": {"length_adaptive_alpha": 0.2}},
    "no whitening": {"gae": {"whiten_advantages": False}},
    "1 epoch": {"epochs_per_batch": 1},
    "4 epochs": {"epochs_per_batch": 4},
    "1 minibatch": {"minibatches_per_epoch": 1},
    "value warm-up, 2 batches": {"critic": {"learning_rate": 3e-4, "value_warmup_steps": 8}},
    "value_clip 0.2": {"critic": {"learning_rate": 3e-4, "value_clip": 0.2}},
    "critic at the policy's rate": {"critic": {"learning_rate": 1e-4}},
    "kl k3": {"kl_estimator": "k3"},
    "success_nll_coef 0.1": {"policy_gradient": {"success_nll_coef": 0.1}},
    "1 response, 4 times the prompts": {"responses_per_prompt": 1, "groups_per_step": 64},
}
"""Name → what differs from the base."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS), metavar="NAME")
    arguments = parser.parse_args()
    columns = ("held-out reward", "over seeds", "explained variance", "KL of a response, nats", "reward before")
    print(f"| | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    with tempfile.TemporaryDirectory() as folder:
        start = burnish.sft(
            model="builtin:tiny",
            data="builtin:chat",
            chat_template="chatml",
            sequences_per_step=16,
            learning_rate=0.003,
            output=Path(folder) / "sft",
        )
        for name in arguments.only:
            print_row(name, [trained(start, VARIANTS[name], seed, Path(folder)) for seed in range(arguments.seeds)])


def trained(
    start: burnish.RunResult, variant: Mapping[str, Any], seed: int, folder: Path
) -> tuple[float, float, float]:
    """Held-out reward, explained variance and KL at the end of a run."""
    settings = {**BASE, **variant}
    steps = settings["epochs_per_batch"] * settings["minibatches_per_epoch"]
    settings.setdefault("groups_per_step", PROMPTS // settings["minibatches_per_epoch"])
    result = burnish.ppo(
        model=start,
        data="builtin:math",
        eval_data="builtin:math/test",
        chat_template="chatml",
        reward="number",
        max_new_tokens=24,
        max_steps=BATCHES * steps,
        evaluation={"prompts": 400},
        seed=seed,
        output=folder / f"{len(list(folder.iterdir()))}",
        **settings,
    )
    rewards = [line["eval/reward"] for line in result.evaluations]
    last = [line for line in result.metrics if "rollout/explained_variance" in line][-3:]
    explained = statistics.fmean(line["rollout/explained_variance"] for line in last)
    divergence = statistics.fmean(line["rollout/response_kl"] for line in last)
    return rewards[-1], explained, divergence, rewards[0]


def print_row(name: str, found: list[tuple[float, float, float, float]]) -> None:
    rewards, explained, divergence, before = zip(*found, strict=True)
    means = [statistics.fmean(each) for each in (rewards, explained, divergence, before)]
    spread = f"{min(rewards):.3f} to {max(rewards):.3f}"
    print(f"| {name} | {means[0]:.3f} | {spread} | {means[1]:.2f} | {means[2]:.2f} | {means[3]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
