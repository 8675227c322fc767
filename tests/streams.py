"""Streams of random numbers, and the comparison of their bits."""

from __future__ import annotations

import torch
from torch import Tensor

from burnish.streams import DECLARATIONS


def numbers(name: str, dtype: torch.dtype, length: int, generator: torch.Generator, k: int = 3) -> Tensor:
    """A stream of that name with random numbers, some of which are NaN if they may be."""
    shape = (length, *(k for _ in range(DECLARATIONS[name].axes)))
    if not dtype.is_floating_point:
        return torch.randint(-100, 100, shape, generator=generator, dtype=dtype)
    stream = torch.randn(shape, generator=generator, dtype=dtype)
    stream[torch.rand(shape, generator=generator) < 0.2] = float("nan")
    return stream


def same_bits(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(*(each.reshape(-1).view(torch.uint8) for each in (one, other)))
