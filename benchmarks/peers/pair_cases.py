"""Cases of preference optimization: data, lengths, and the settings of every contender."""

from __future__ import annotations

from peers.cases import FLOAT32, AdapterKind, Case, Contender, PairLoss

SIZES = ("1M", "15M", "100M")
PAIRS_PER_STEP = {"1M": 4, "15M": 4, "100M": 2}
LEARNING_RATE = 1e-4
BETA = 0.1
SHORTEST, LONGEST = 30, 1000
"""Tokens of a conversation of HH-RLHF, chosen and rejected: TRL cuts at 1 024."""
PROMPT, ANSWER = (200, 600), (40, 120)
"""Tokens, from and to, in the mixture of long prompts."""
AGREEMENT = 1e-4
"""Largest relative difference of float32 results: four digits."""

COMPUTED = Contender("burnish", "burnish", settings={"reference": "online"})
ONCE = Contender("burnish, reference computed once", "burnish", settings={"reference": "precomputed_in_memory"})
DEFAULTS = Contender("TRL, defaults", "trl")
"""bfloat16 autocast, gradient checkpointing, padded batches of 8 pairs, or of a step's pairs where these are fewer."""
SEARCHED = (
    *(Contender(f"TRL, float32, {n}", "trl", n, FLOAT32) for n in (1, 2, 4)),
    Contender("TRL, float32, 4, checkpointing", "trl", 4, {**FLOAT32, "gradient_checkpointing": True}),
)
"""Candidates for TRL's best setting in float32, searched once per size and adapter: the fastest takes part, with its
reference computed in each step, and again with precompute_ref_log_probs. Of a step's 4 pairs (2 at 100M), 1, 2 or 4
in a forward. TRL 1.16's DPOTrainer scores in chunks by default; padding_free warns and pads since its rewrite
(dpo_config.py); Liger's kernels are Triton's, which has no CPU."""


SEARCHED_KTO = tuple(Contender(f"TRL, float32, {n} answers", "trl", n, FLOAT32) for n in (2, 4, 8))
"""As `SEARCHED`, of a step's 8 responses (4 at 100M), each a row of its own. KTO needs at least two, since its
divergence is estimated on the response to another prompt."""


def cases(adapter: AdapterKind, loss: PairLoss) -> tuple[Case, ...]:
    """Cases with this adapter and this loss."""
    return tuple(Case(size, data, adapter, PAIRS_PER_STEP[size], loss) for size in SIZES for data in ("hh", "long"))


def searched(loss: PairLoss) -> tuple[Contender, ...]:
    """Candidates for TRL's best setting."""
    return SEARCHED_KTO if loss == "kto" else SEARCHED


def precomputed(contender: Contender) -> Contender:
    """TRL's trainer, with the reference's log-probabilities computed before the training."""
    settings = {**contender.settings, "precompute_ref_log_probs": True}
    return Contender(f"{contender.name}, reference precomputed", "trl", contender.batch, settings)


def peer_of(contender: Contender) -> Contender:
    """Burnish's contender with the same kind of reference."""
    once = (
        contender.settings.get("precompute_ref_log_probs")
        or contender.settings.get("reference") == "precomputed_in_memory"
    )
    return ONCE if once else COMPUTED


def is_exact(contender: Contender) -> bool:
    """Whether it computes in float32, so that its losses are those of the others."""
    return contender.library == "burnish" or contender.settings.get("bf16") is False
