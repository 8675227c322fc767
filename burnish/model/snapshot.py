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

KINDS = ("weights", "averages")
"""Beginnings of the names of the tensors of its state, before those of the weights."""


class Snapshot:
    """Copy of the trained weights. Example: ``earlier = Snapshot(policy); …training…; with earlier.in_place():
    policy.score(…)``."""

    def __init__(self, policy: Model) -> None:
        """Copies the policy's current weights."""
        self.policy = policy
        self.version = 0
        """Number of changes of the weights."""
        self._weights = {name: piece.detach().clone() for name, piece in policy.trained_pieces()}
        self._averages: dict[str, Tensor] = {}
        """Float32 averages of 16-bit weights after a soft update; `_weights` has them rounded."""
        self._followed: Mapping[str, Tensor] = {}

    def follow_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Names the weights that `follow` reads in place of the policy's own: the optimizer's masters, in float32."""
        self._followed = weights

    @contextmanager
    def in_place(self) -> Iterator[Model]:
        """Context manager that gives the policy with the snapshot's weights. Nothing is copied: parameters point to
        them. Sharded ones are copied, piece by piece, since FSDP2 keeps pointers to its pieces."""
        if self.policy.placement.gathers:
            with self._copied():
                yield self.policy
            return
        parameters = dict(self.policy.trained_parameters())
        current = {name: parameter.data for name, parameter in parameters.items()}
        try:
            for name, parameter in parameters.items():
                parameter.data = self._weights[name]
            yield self.policy
        finally:
            for name, parameter in parameters.items():
                parameter.data = current[name]

    @contextmanager
    def _copied(self) -> Iterator[None]:
        pieces = dict(self.policy.trained_pieces())
        current = {name: piece.clone() for name, piece in pieces.items()}
        with torch.no_grad():
            for name, piece in pieces.items():
                piece.copy_(self._weights[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, piece in pieces.items():
                    piece.copy_(current[name])

    @torch.no_grad()
    def follow(self, share: float) -> None:
        """Moves the snapshot towards the current policy: w ← share · policy + (1 − share) · w (arXiv 2404.09656,
        section 3).

        16-bit weights have a float32 average: in their own type a soft update would be lost, since it is smaller than
        the distance between two neighboring numbers.
        """
        for name, piece in self.policy.trained_pieces():
            weight, policy = self._weights[name], self._followed.get(name, piece).detach()
            if weight.dtype.itemsize < 4 and share < 1:
                average = self._averages.setdefault(name, weight.float())
                weight.copy_(average.lerp_(policy.float(), share))
                continue
            self._averages.pop(name, None)
            weight.lerp_(policy.to(weight.dtype), share)
        self.version += 1

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """State for a checkpoint: the weights by name, and their averages if there are any (not copies)."""
        averages = {f"averages/{name}": average for name, average in self._averages.items()}
        return {f"weights/{name}": weight for name, weight in self._weights.items()} | averages, {}

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Restores the result of `state_dict`."""
        self._averages = {}
        for name, weight in self._weights.items():
            weight.copy_(tensors[f"weights/{name}"])
            if (average := tensors.get(f"averages/{name}")) is not None:
                self._averages[name] = average.to(weight.device, torch.float32, copy=True)
        self.version += 1
