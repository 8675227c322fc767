"""Methods and adapters for which the law of parallel training is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SUPERVISED = {"sequences_per_step": 6, "tokens_per_microbatch": 60}
_PAIRS = {"sequences_per_step": 8, "tokens_per_microbatch": 400}
_ROLLOUTS = {"groups_per_step": 4, "responses_per_prompt": 3, "tokens_per_microbatch": 60, "reward_workers": 1}
METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "sft": ("sft", _SUPERVISED),
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
}
"""Name → stage, and its settings."""
ADAPTERS: Mapping[str, Mapping[str, Any]] = {"full": {}, "lora": {"adapter": {"kind": "lora"}}}
