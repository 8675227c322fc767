"""Cases of on-policy distillation: sizes, lengths, divergences, and the settings of every contender."""

from __future__ import annotations

from dataclasses import replace

from peers.cases import FLOAT32, Case, Contender

TEACHERS = {"15M": "100M"}
"""Size of each student's teacher; both have the same tokenizer."""
PROMPTS_PER_STEP = {"15M": 4}
RESPONSES = 4
"""To each prompt. TRL generates one response to each row, so that its rows repeat the prompts."""
WRITTEN = 128
"""Tokens of every response: no token ends one earlier."""
LEARNING_RATE = 1e-4
BETAS = {"reverse KL": 1.0, "JSD": 0.5}
"""TRL's beta of each divergence over the whole vocabulary; 1 is its default."""
PARTS = ("sampling", "teacher", "student", "backward")
"""Parts of a step. Student: its forward with the divergence. The rest is the optimizer, padding or packing, logging."""
AGREEMENT = 1e-4
"""Largest relative difference of float32 results from the same responses."""

BURNISH = Contender("burnish", "burnish")
DEFAULTS = Contender("TRL, defaults", "trl")
"""Gradient checkpointing, 8 padded rows a forward, and bfloat16 autocast in sampling alone: in a single process, TRL
1.16 trains in float32 whatever `bf16` says, since `_ForwardRedirection` puts its function in the place of the forward
that accelerate wrapped in autocast. So all of TRL's contenders are compared with Burnish in float32."""
SEARCHED = (
    *(Contender(f"TRL, float32, {n}", "trl", n, FLOAT32) for n in (1, 2, 4, 8, 16)),
    *(Contender(f"TRL, sampling in bfloat16, {n}", "trl", n, {"gradient_checkpointing": False}) for n in (1, 2, 8)),
)
"""Candidates for TRL's best setting, searched once per size: rows of a forward, and `bf16`, its default. That is all
that TRL 1.16 lets choose: all responses of a step are generated in one batch; the divergence is always computed by
tiles, of 4 096 tokens and 32 768 entries of the vocabulary, which are constants of its code."""
CASES = tuple(Case(size, "prompts", "full", count) for size, count in PROMPTS_PER_STEP.items())


def diverging(contender: Contender, beta: float) -> Contender:
    """The contender with this divergence, which its own process reads: TRL's `beta`."""
    return replace(contender, settings={**contender.settings, "beta": beta})
