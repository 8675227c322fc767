"""GRPO on GSM8K with a small real model, end to end: a case where the policy solves almost no problem at the beginning.

    python benchmarks/gsm8k_rl.py --shared ../shared --output runs/gsm8k-rl

stories260K (260 thousand parameters, MIT) is fine-tuned on worked solutions (SFT), so that it writes in their format;
then reinforcement learning on problems of the train file rewards the right number (`math`) and, a fifth as much, a last
line `#### number`. Measured greedily on the test file. Prints a row of Markdown for each evaluation;
``python benchmarks/rl_curves.py PICTURE GSM8K=runs/gsm8k-rl/rl`` draws the curves.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import burnish

MAX_NEW_TOKENS = 256
"""Largest number of tokens of a response."""
FORM = r"[\s\S]*\n#### -?[\d,.]+\s*"
METRICS = {
    "right": "eval/reward/math",
    "right format": "eval/reward/form",
    "tokens": "eval/response_length",
}


READING: dict[str, Any] = {"max_length": 512, "overlong": "drop"}
REWARD = ["math", {"name": "regex", "metric": "form", "pattern": FORM, "weight": 0.2}]


def train(shared: Path, output: Path, seed: int, steps: int) -> Path:
    """Both stages; returns the run folder of the second."""
    data = shared / "data" / "gsm8k"
    reading = {**READING, "data": str(data / "train.jsonl"), "seed": seed}
    sft_run = burnish.sft(
        model=str(shared / "models" / "stories260K"),
        output=str(output / "sft"),
        max_steps=160,
        sequences_per_step=16,
        learning_rate=3e-3,
        **reading,
    )
    rl_run = burnish.rl(
        model=str(sft_run.folder),
        eval_data=str(data / "test.jsonl"),
        output=str(output / "rl"),
        algorithm="grpo",
        reward=REWARD,
        responses_per_prompt=8,
        groups_per_step=6,
        max_resamples=1,
        max_new_tokens=MAX_NEW_TOKENS,
        success_threshold=1.0,
        max_steps=steps,
        learning_rate=1e-3,
        eval_every=steps // 4,
        evaluation={"prompts": 100},
        log_every=1,
        **reading,
    )
    return rl_run.folder


def main() -> None:
    """Trains, and prints the held-out metrics of every evaluation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="the folder with data/gsm8k and models/stories260K")
    parser.add_argument("--output", type=Path, default=Path("runs/gsm8k-rl"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=24, help="of reinforcement learning")
    options = parser.parse_args()
    began = time.perf_counter()
    folder = train(options.shared, options.output, options.seed, options.steps)
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    print(f"| step | {' | '.join(METRICS)} |\n{'| --- ' * (len(METRICS) + 1)}|")
    for line in lines:
        if "eval/reward" in line:
            cells = (f"{line[key]:.1f}" if name == "tokens" else f"{line[key]:.1%}" for name, key in METRICS.items())
            print(f"| {line['step']} | {' | '.join(cells)} |")
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
