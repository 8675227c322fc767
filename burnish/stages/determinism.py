"""Seeds, deterministic algorithms, and the error for a lack of memory."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from burnish.errors import CapacityError
from burnish.runs.random_state import capture_random, restore_random


@contextmanager
def repeatable(seed: int, *, only_deterministic: bool) -> Iterator[None]:
    """Seeds all random generators and, if requested, allows only deterministic algorithms.

    Afterwards the caller's generators and settings are restored.
    """
    tensors, values = capture_random()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses to be deterministic
    memory: Any = torch.utils.deterministic  # a module with a property, which type checkers cannot see
    filled = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(only_deterministic)
    memory.fill_uninitialized_memory = False  # nothing reads what was not written, and filling costs time
    try:
        yield
    finally:
        restore_random(tensors, values)
        memory.fill_uninitialized_memory = filled


@contextmanager
def out_of_memory_explained(tokens_per_microbatch: int) -> Iterator[None]:
    """Turns a lack of memory into a CapacityError. (If the kernel kills the process, there is no message.)"""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_lack_of_memory(error):
            raise
        raise CapacityError(
            given=f"memory ran out: {' '.join(str(error).split())[:200]}",
            rule=f"weights, optimizer and a microbatch of {tokens_per_microbatch} tokens fit into memory",
            remedy="run the same command with a smaller tokens_per_microbatch, or add gradient_checkpointing=true, "
            "adapter.kind=lora, optimizer=adamw_8bit or, in bfloat16, optimizer.stochastic_rounding=true",
        ) from error


def _is_lack_of_memory(error: MemoryError | RuntimeError) -> bool:
    """CUDA has a class of its own; torch's CPU allocator raises a plain RuntimeError that names itself."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
