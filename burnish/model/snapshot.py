"""A policy as it was at an earlier moment: a frozen copy of what trains, put in place for as long as it is asked.

What reference the losses of preferences and of reinforcement compare with: the policy as its stage began. Only the
weights that train are copied, an adapter's or all, so no second model is held. (An adapter that was new when the
stage began is its base, to the bit: switching it off would spare its products, and nothing else.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from burnish.model.policy import Model


class Snapshot:
    """Example: ``earlier = Snapshot(policy); …training…; with earlier.in_place(): policy.score(…)``."""

    def __init__(self, policy: Model) -> None:
        """The policy as it is now."""
        self.policy = policy
        self.version = 0
        """Goes up with every move."""
        self._weights = {name: parameter.detach().clone() for name, parameter in policy.trained_parameters()}

    @contextmanager
    def in_place(self) -> Iterator[Model]:
        """The policy with the earlier weights. Nothing is copied: the parameters point elsewhere for this time."""
        parameters = dict(self.policy.trained_parameters())
        now = {name: parameter.data for name, parameter in parameters.items()}
        try:
            for name, parameter in parameters.items():
                parameter.data = self._weights[name]
            yield self.policy
        finally:
            for name, parameter in parameters.items():
                parameter.data = now[name]

    @torch.no_grad()
    def follow(self, share: float) -> None:
        """Moves towards the policy as it is now: w ← share · policy + (1 − share) · w (arXiv 2404.09656, section 3)."""
        for name, parameter in self.policy.trained_parameters():
            self._weights[name].lerp_(parameter.detach(), share)
        self.version += 1

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The earlier weights by name; whoever restores a checkpoint writes into them."""
        return self._weights
