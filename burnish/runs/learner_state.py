"""State of a learner for checkpoints: trained weights in full precision, optimizer, and the state of its loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from burnish.errors import RunError
from burnish.losses.base import AdaptiveLoss
from burnish.runs.optimizer_state import flatten_optimizer, restore_optimizer
from burnish.train.learner import Learner


@dataclass(frozen=True, eq=False, slots=True)
class LearnerState:
    """State of a learner, with the methods of `training_state.StatefulObject`."""

    learner: Learner

    @property
    def is_finite(self) -> bool:
        """Whether all trained weights are finite numbers."""
        weights = self.learner.trainer.optimizer.masters.weights
        return bool(torch.stack([weight.isfinite().all() for weight in weights]).all())

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        optimizer, loss = self.learner.trainer.optimizer, self.learner.loss
        names = zip(optimizer.names, optimizer.masters.weights, strict=True)
        tensors = {f"weights/{name}": weight.detach() for name, weight in names}
        libraries = []
        for index, library in enumerate(optimizer.libraries):
            library_tensors, library_values = flatten_optimizer(library)
            tensors |= {f"optimizers/{index}/{name}": tensor for name, tensor in library_tensors.items()}
            libraries.append(library_values)
        values: dict[str, Any] = {"optimizers": libraries}
        parts: dict[str, tuple[Mapping[str, Tensor], Mapping[str, Any]]] = {"optimizer": optimizer.state_dict()}
        if isinstance(loss, AdaptiveLoss):
            parts["loss"] = loss.state_dict()
        if self.learner.pause is not None:
            parts["pause"] = self.learner.pause.state_dict()
        for owner, (part_tensors, part_values) in parts.items():
            tensors |= {f"{owner}/{name}": tensor for name, tensor in part_tensors.items()}
            values[owner] = part_values
        return tensors, values

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Restores the state, bit for bit.

        Raises:
            RunError: the checkpoint has other trained parameters than the learner.
        """
        optimizer, loss = self.learner.trainer.optimizer, self.learner.loss
        weights = below(tensors, "weights/")
        if weights.keys() != set(optimizer.names):
            different = sorted(weights.keys() ^ set(optimizer.names))
            raise RunError(
                given=f"the checkpoint and the {self.learner.name} differ in {len(different)} parameters, such as "
                f"{different[0]}",
                rule="a run resumes with the model that it started with",
                remedy="give the model of the first run, or another --output",
            )
        for name, weight in zip(optimizer.names, optimizer.masters.weights, strict=True):
            weight.copy_(weights[name])
        optimizer.masters.write_back()
        for index, library in enumerate(optimizer.libraries):
            restore_optimizer(library, below(tensors, f"optimizers/{index}/"), values["optimizers"][index])
        optimizer.load_state_dict(below(tensors, "optimizer/"), values["optimizer"])
        if isinstance(loss, AdaptiveLoss):
            loss.load_state_dict(below(tensors, "loss/"), values["loss"])
        if self.learner.pause is not None:
            self.learner.pause.load_state_dict({}, values["pause"])


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors whose names begin with the prefix, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
