"""LoRA+: a higher learning rate for B than for A, as factors by name (see `burnish.optim.rates`)."""

from __future__ import annotations

from collections.abc import Iterable


def loraplus_factors(names: Iterable[str], ratio: float) -> dict[str, float]:
    """Factors of the learning rate: `ratio` for every B.

    LoRA+ (arXiv 2402.12354, section 4) keeps A's rate and multiplies B's: with one rate for both, B's updates vanish
    against A's as the width grows. The paper finds ratios about 2⁴ good.

    Args:
        names: names of trained parameters.
        ratio: 1 is plain LoRA.
    """
    return {name: ratio for name in names if ".lora_B." in name or ".lora_embedding_B." in name}
