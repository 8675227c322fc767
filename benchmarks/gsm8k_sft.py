"""Supervised fine-tuning of a small real model on GSM8K, verified by plain transformers (and peft).

    python benchmarks/gsm8k_sft.py --shared ../shared --output runs/gsm8k

trains stories260K (260 thousand parameters, MIT) on GSM8K's train file, full weights and LoRA, and computes the loss on
the test file again by code that does not use Burnish. Prints a row of Markdown for each.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import burnish

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.plain import plain_loss

VARIANTS = {
    "full": {"learning_rate": 2e-3},
    "LoRA, rank 16": {"learning_rate": 1e-2, "adapter": {"kind": "lora", "rank": 16}},
}
MAX_LENGTH = 512


def main() -> None:
    """Trains and measures both variants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="the folder with data/gsm8k and models/stories260K")
    parser.add_argument("--output", type=Path, default=Path("runs/gsm8k"))
    arguments = parser.parse_args()
    data = arguments.shared / "data" / "gsm8k"
    print("| weights | steps | test loss before | after | in plain transformers | seconds |\n|---|---|---|---|---|---|")
    for name, settings in VARIANTS.items():
        began = time.perf_counter()
        run = burnish.sft(
            model=str(arguments.shared / "models" / "stories260K"),
            data=str(data / "train.jsonl"),
            eval_data=str(data / "test.jsonl"),
            output=str(arguments.output / name.split(",")[0].lower()),
            max_length=MAX_LENGTH,
            overlong="drop",
            **settings,
        )
        seconds = time.perf_counter() - began
        lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
        losses = [line["eval/loss"] for line in lines if "eval/loss" in line]
        plain = plain_loss(run.folder / "model", data / "test.jsonl", MAX_LENGTH)
        row = [name, run.summary["steps"], f"{losses[0]:.4f}", f"{losses[-1]:.4f}", f"{plain:.4f}", f"{seconds:.0f}"]
        print(f"| {' | '.join(map(str, row))} |", flush=True)


main()
