"""Measured peak speed of a device, the denominator of model-FLOP utilization.

This machine, with its clock and threads, may never reach the figure of its data sheet; so the peak is the speed of the
fastest of a few plain matrix products.
"""

from __future__ import annotations

import time
from functools import cache

import torch

SMALLEST, LARGEST = 256, 8192
"""Smallest and largest width of the products; no known device is faster beyond the largest."""
LONG_ENOUGH = 0.02
"""Seconds: a product that takes this long is not dominated by its start."""
REPEATS = 5
"""Products of the last width; the fastest counts, since others may be disturbed."""


@cache
def measured_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of the fastest n × n matrix product tried on the device, with torch's threads and precision as they are.

    The product of two n × n matrices is 2 n³ FLOPs. n is doubled until a product takes long enough, then
    the fastest of a few counts. The measurement takes less than half a second, and is measured once per process.
    """
    width, seconds = SMALLEST, _seconds(device, dtype, SMALLEST, repeats=2)
    best = 2 * width**3 / seconds
    while seconds < LONG_ENOUGH / 8 and width < LARGEST:
        width *= 2
        seconds = _seconds(device, dtype, width, repeats=1)
        best = max(best, 2 * width**3 / seconds)
    best = max(best, 2 * width**3 / _seconds(device, dtype, width, REPEATS))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)  # training does not need these matrices
    return best


@torch.no_grad()
def _seconds(device: torch.device, dtype: torch.dtype, width: int, repeats: int) -> float:
    """Seconds of the fastest product, after a warm-up."""
    # A separate generator leaves those of the run unchanged. Not zeros, on which devices are faster.
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
