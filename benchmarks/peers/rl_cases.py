"""Cases of reinforcement learning: sizes, lengths, and the settings of every contender."""

from __future__ import annotations

from peers.cases import FLOAT32, Case, Contender

PROMPTS_PER_STEP = {"1M": 64, "15M": 4, "100M": 1}
"""Fewer where a step would take minutes; the same for all."""
RESPONSES = 8
SHORTEST, LONGEST = 32, 256
"""Tokens of a prompt."""
WRITTEN = 128
"""Tokens of every response: no token ends one earlier."""
LEARNING_RATE = 1e-4
PARTS = ("sampling", "reward", "scoring", "backward")
"""Parts of a step; the rest is the optimizer, padding and packing, decoding text, logging."""
AGREEMENT = 1e-4
"""Largest relative difference of float32 results from the same responses."""

BURNISH = Contender("burnish", "burnish")
DEFAULTS = Contender("TRL, defaults", "trl")
"""bfloat16 autocast, gradient checkpointing, 8 padded rows a forward."""
BATCHED = {"use_transformers_continuous_batching": True}
SEARCHED = (
    *(Contender(f"TRL, float32, {n}", "trl", n, FLOAT32) for n in (2, 4, 8, 32)),
    Contender("TRL, bfloat16, 8", "trl", 8, {"gradient_checkpointing": False}),
    Contender("TRL, float32, 8, continuous batching", "trl", 8, {**FLOAT32, **BATCHED}),
)
"""Candidates for TRL's best setting, searched once per size: rows of a forward, autocast to bfloat16, and transformers'
continuous batching for sampling (TRL 1.16 calls it use_transformers_continuous_batching; use_transformers_paged is
its old name). Otherwise all responses of a step are generated in one batch. vLLM has no wheel for CPUs; Liger's kernels
are Triton's."""
CASES = tuple(Case(size, "prompts", "full", count) for size, count in PROMPTS_PER_STEP.items())


def is_exact(contender: Contender) -> bool:
    """Whether it trains in float32."""
    return contender.library == "burnish" or contender.settings.get("bf16") is False
