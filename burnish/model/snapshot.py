"""Snapshot of a policy: a copy of its trained weights from an earlier step, swapped in for scoring.

Serves as the reference model of preference losses and reinforcement learning: the policy at the start of its stage.
Only trained weights are copied, an adapter's or all, so no second model is held. (With a new adapter, the initial
policy is the base, bit for bit: disabling the adapter would only save its products.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from burnish.model.policy import Model


class Snapshot:
    """Copy of the trained weights. Example: ``earlier = Snapshot(policy); …training…; with earlier.in_place():
    policy.score(…)``."""

    def __init__(self, policy: Model) -> None:
        """Copies the policy's current weights."""
        self.policy = policy
        self.version = 0
        """Number of changes of the weights."""
        self._weights = {name: parameter.detach().clone() for name, parameter in policy.trained_parameters()}

    @contextmanager
    def in_place(self) -> Iterator[Model]:
        """Context manager that gives the policy with the snapshot's weights. Nothing is copied: parameters point to
        them."""
        parameters = dict(self.policy.trained_parameters())
        current = {name: parameter.data for name, parameter in parameters.items()}
        try:
            for name, parameter in parameters.items():
                parameter.data = self._weights[name]
            yield self.policy
        finally:
            for name, parameter in parameters.items():
                parameter.data = current[name]

    @torch.no_grad()
    def follow(self, share: float) -> None:
        """Moves the snapshot towards the current policy: w ← share · policy + (1 − share) · w (arXiv 2404.09656,
        section 3)."""
        for name, parameter in self.policy.trained_parameters():
            self._weights[name].lerp_(parameter.detach(), share)
        self.version += 1

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """State for a checkpoint: the weights by name (not copies)."""
        return {f"weights/{name}": weight for name, weight in self._weights.items()}, {}

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Restores the result of `state_dict`."""
        for name, weight in self._weights.items():
            weight.copy_(tensors[f"weights/{name}"])
        self.version += 1
