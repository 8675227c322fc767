"""Stochastic rounding: a float32 number becomes one of its two neighbors in bfloat16, and is unchanged in
expectation."""

from __future__ import annotations

import torch
from torch import Tensor

_LOW_BITS = 16
"""Low bits of a float32 that bfloat16 does not have."""


def round_stochastically(source: Tensor, generator: torch.Generator) -> Tensor:
    """Rounds to bfloat16, up with the probability of the truncated fraction (arXiv 2010.06192, section 3).

    The bits of a float are ordered as its magnitude, so 16 random bits are added below the last bit that bfloat16 has;
    a carry into it rounds up. Infinities and NaN do not change.

    Args:
        source: float32, of any shape.
        generator: generator on the source's device; one number is drawn per element.
    """
    assert source.dtype == torch.float32, f"float32 is rounded, not {source.dtype}"
    noise = torch.randint(1 << _LOW_BITS, source.shape, generator=generator, device=source.device, dtype=torch.int32)
    bits = source.contiguous().view(torch.int32).add(noise).bitwise_and_(-(1 << _LOW_BITS))
    rounded = torch.where(source.isfinite(), bits.view(torch.float32), source)
    return rounded.to(torch.bfloat16)
