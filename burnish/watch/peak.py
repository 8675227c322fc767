"""The measured peak of a device: what model-FLOP utilisation is a share of.

Beside the meter. Data sheets promise numbers that this machine, at this clock, with these threads, may never reach; so
the peak is what the best of a few plain matrix products reaches here, now.
"""

from __future__ import annotations

import time
from functools import cache

import torch

SMALLEST, LARGEST = 256, 8192
"""Widths of the products that are tried; beyond the largest, none known gets faster."""
LONG_ENOUGH = 0.02
"""Seconds: a product that takes this long is not dominated by its start."""
REPEATS = 5
"""Products of the last width; the fastest counts, since others were disturbed."""


@cache
def measured_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of the fastest n × n matrix product tried on the device, with torch's threads and precision as they are.

    The product of two n × n matrices is 2 n³ FLOPs. n is doubled until a product is long enough to be measured, then
    the fastest of a few counts. It takes less than half a second, and is measured once per process.
    """
    width, seconds = SMALLEST, _seconds(device, dtype, SMALLEST, repeats=2)
    best = 2 * width**3 / seconds
    while seconds < LONG_ENOUGH / 8 and width < LARGEST:
        width *= 2
        seconds = _seconds(device, dtype, width, repeats=1)
        best = max(best, 2 * width**3 / seconds)
    best = max(best, 2 * width**3 / _seconds(device, dtype, width, REPEATS))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)  # the matrices here are no part of what training needs
    return best


@torch.no_grad()
def _seconds(device: torch.device, dtype: torch.dtype, width: int, repeats: int) -> float:
    """The fastest of some products, after one that warms up."""
    # A generator of its own: the run's generators are left alone. Not zeros: devices are faster on them.
    generator = torch.Generator(device).manual_seed(0)
    left, right = (torch.randn(width, width, device=device, generator=generator).to(dtype) for _ in range(2))
    left @ right
    times = []
    for _ in range(repeats):
        _wait(device)
        since = time.perf_counter()
        left @ right
        _wait(device)
        times.append(time.perf_counter() - since)
    return max(min(times), 1e-9)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
