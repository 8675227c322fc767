"""Rounding by chance: a float32 number becomes one of its two neighbours in bfloat16, and itself on average."""

from __future__ import annotations

import torch
from torch import Tensor

_LOST = 16
"""Bits of a float32 that bfloat16 does not have."""


def round_stochastically(source: Tensor, generator: torch.Generator) -> Tensor:
    """Source in bfloat16: up with the probability of what truncation would lose (arXiv 2010.06192, section 3).

    The bits of a float are ordered as its magnitude is, so 16 random bits are added below the last one that stays, and
    what overflows into it rounds up. Infinities and NaN stay what they are.

    Args:
        source: float32, of any shape.
        generator: of its device; one number is drawn for each of the source's.
    """
    assert source.dtype == torch.float32, f"float32 is rounded, not {source.dtype}"
    noise = torch.randint(1 << _LOST, source.shape, generator=generator, device=source.device, dtype=torch.int32)
    bits = source.contiguous().view(torch.int32).add(noise).bitwise_and_(-(1 << _LOST))
    rounded = torch.where(source.isfinite(), bits.view(torch.float32), source)
    return rounded.to(torch.bfloat16)
