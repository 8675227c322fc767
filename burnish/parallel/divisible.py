"""What of a model can be divided among processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True, eq=False, slots=True)
class Divisible:
    """A model on this process, with all of its weights."""

    model: nn.Module
    """The model, whose names of weights a placement uses."""
    root: nn.Module
    """The transformers model in it."""
    decoder: nn.Module
    """The decoder in that."""
    layers: Sequence[nn.Module]
    """The decoder's layers."""
    plan: Mapping[str, str]
    """Tensor parallelism: name of a module of the decoder, with * for a number → style; empty: there is no plan."""
    heads: int
    """Greatest number of slices that have equally many heads of attention, and of keys."""
    head: nn.Linear | None
    """The output head, if tensor parallelism may cut it by tokens; None: it stays whole."""
    embedding: nn.Module
    """The embedding, which may be tied to the head."""
    cpu_offload: bool = False
    """Whether sharded weights and their optimizer stay in the memory of the CPU."""
