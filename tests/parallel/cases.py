"""Methods, layouts and adapters for which the law of parallel training is shown, and the folder that they need."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM

from burnish.builtin.tiny import make_model, make_tokenizer
from burnish.parallel.mesh import Mesh
from tests.stages.small import write_world
from tests.vision.small import FAMILIES, rows_of

_SUPERVISED = {"sequences_per_step": 6, "tokens_per_microbatch": 60}
_PAIRS = {"sequences_per_step": 8, "tokens_per_microbatch": 400}
_ROLLOUTS = {"groups_per_step": 4, "responses_per_prompt": 3, "tokens_per_microbatch": 60, "reward_workers": 1}
_IMAGES = {
    "model": "{folder}/vision",
    "vision": {"tower": "trained"},
    "eval_data": None,
    "tokens_per_microbatch": 200,
}
METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "sft": ("sft", _SUPERVISED),
    "sft, layers recomputed": ("sft", {**_SUPERVISED, "gradient_checkpointing": True}),
    "sft, pieces in main memory": ("sft", {**_SUPERVISED, "parallel": {"cpu_offload": True}}),
    "dpo": ("prefer", {**_PAIRS, "loss": "dpo"}),
    "simpo": ("prefer", {**_PAIRS, "loss": "simpo"}),
    "kto": ("prefer", {**_PAIRS, "loss": "kto"}),
    "aot": ("prefer", {**_PAIRS, "loss": "aot"}),
    "beta_dpo": ("prefer", {**_PAIRS, "loss": "beta_dpo"}),
    "reward": ("reward", _PAIRS),
    "grpo": ("rl", {**_ROLLOUTS, "algorithm": "grpo", "kl_coef": 0.1}),
    "gspo": ("rl", {**_ROLLOUTS, "algorithm": "gspo"}),
    "ppo": ("ppo", {**_ROLLOUTS, "kl_coef": 0.1}),
    "distill": (
        "distill",
        {
            **{key: value for key, value in _ROLLOUTS.items() if key != "reward_workers"},
            "loss": "full",
            "divergence": "jsd",
        },
    ),
    "sft, images": ("sft", {**_SUPERVISED, **_IMAGES, "data": "{folder}/images/sft.jsonl"}),
    "dpo, images": ("prefer", {**_PAIRS, **_IMAGES, "data": "{folder}/images/pairs.jsonl"}),
    "grpo, images": (
        "rl",
        {**_ROLLOUTS, **_IMAGES, "data": "{folder}/images/tasks.jsonl", "algorithm": "grpo"},
    ),
}
"""Name → stage, and its settings; ``{folder}`` in a path is the folder of `write_cases`."""
LAYOUTS: Mapping[str, Mesh] = {
    "data=2": Mesh(data=2),
    "data=4": Mesh(data=4),
    "shard=2": Mesh(shard=2),
    "shard=4": Mesh(shard=4),
    "data=2, shard=2": Mesh(data=2, shard=2),
    "tensor=2": Mesh(tensor=2),
    "shard=2, tensor=2": Mesh(shard=2, tensor=2),
}
ADAPTERS: Mapping[str, Mapping[str, Any]] = {"full": {}, "lora": {"adapter": {"kind": "lora"}}}


def write_cases(folder: Path) -> Path:
    """Writes rows and models of all cases."""
    write_world(folder)
    for number, name in enumerate(("model", "other")):
        write_divisible(folder / name, seed=number)
    _write_divisible_vision(folder / "vision")
    (folder / "images").mkdir()
    for kind in ("sft", "pairs", "tasks"):
        rows_of(kind, folder / "images", count=24)
    return folder


def write_divisible(folder: Path, seed: int) -> None:
    """A model of which two processes can have equal slices: of the heads of its attention, and of its tokens."""
    config = make_model(0, hidden_size=32, layers=2).config
    config.num_attention_heads, config.num_key_value_heads, config.head_dim = 4, 2, 8
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    model.resize_token_embeddings(pad_to_multiple_of=8, mean_resizing=False)
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)


def _write_divisible_vision(folder: Path) -> None:
    """A vision-language model of which two processes can have equal slices."""
    small = FAMILIES[0]
    built = small.build(dtype=torch.float32)
    built.config.text_config.num_key_value_heads = 2
    torch.manual_seed(0)
    model = type(built)(built.config)
    model.generation_config.eos_token_id = small.tokenizer().eos_token_id
    model.resize_token_embeddings(pad_to_multiple_of=8, mean_resizing=False)
    model.save_pretrained(folder)
    small.tokenizer().save_pretrained(folder)
    small.processor().save_pretrained(folder)


def settings_of(method: str, adapter: str, folder: Path) -> tuple[str, dict[str, Any]]:
    """Stage and settings of a case."""
    stage, settings = METHODS[method]
    placed = {key: value.format(folder=folder) if isinstance(value, str) else value for key, value in settings.items()}
    return stage, {**placed, **ADAPTERS[adapter]}
