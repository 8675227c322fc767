"""Bytes of the weights of policy and critic of a stage ppo: full, two adapters on one base, a critic of its own.

    python benchmarks/ppo_memory.py

A Llama of 85 million parameters with random weights, float32. Tensors that both models have count once. Prints a
Markdown table.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from burnish.builtin.tiny import write_untrained
from burnish.recipe.read import stage_recipe
from burnish.stages.context import StageContext
from burnish.stages.kind import kind_of
from burnish.stages.models import load_models

LORA = {"kind": "lora", "rank": 16}


def main() -> None:
    print("| | MiB of weights | trained parameters |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        write_untrained(Path(folder), hidden_size=768, layers=12)
        cases: Mapping[str, dict[str, Any]] = {
            "full weights": {},
            "LoRA of rank 16, one base": {"adapter": LORA},
            "LoRA of rank 16, a critic of its own": {"adapter": LORA, "critic": {"model": folder}},
        }
        for name, settings in cases.items():
            recipe = stage_recipe("ppo", {"model": folder, "data": "builtin:math", "reward": "number", **settings})
            context: StageContext[Any] = StageContext.of(recipe.recipe)
            kind = kind_of(recipe.recipe.stages[0])
            models = load_models(context, kind.roles(recipe.recipe, context.settings)).values()
            weights = {p.data_ptr(): p.nbytes for model in models for _, p in model.named_parameters()}
            trained = sum(p.numel() for model in models for _, p in model.trained_parameters())
            print(f"| {name} | {sum(weights.values()) / 2**20:.0f} | {trained:,} |", flush=True)


if __name__ == "__main__":
    main()
