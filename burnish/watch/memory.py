"""The most memory that a run has needed. Beside the meter, which reads it when a line is due."""

from __future__ import annotations

import resource
import sys

import torch

GIB = 2**30


def peak_memory_gib(device: torch.device) -> float:
    """GiB: the peak of tensors on a CUDA device, or of the whole process (resident set) on CPU.

    Reading it does not wait for the device.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    unit = 1 if sys.platform == "darwin" else 1024  # Linux counts KiB, macOS bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB
