"""Peak memory of a run."""

from __future__ import annotations

import resource
import sys

import torch

GIB = 2**30


def peak_memory_gib(device: torch.device) -> float:
    """Peak memory in GiB: of tensors on a CUDA device, or of the whole process (resident set) on CPU.

    Reading it does not wait for the device.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    unit = 1 if sys.platform == "darwin" else 1024  # Linux counts KiB, macOS bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB
