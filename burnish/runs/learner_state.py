"""State of a learner for checkpoints: trained weights in full precision, optimizer, and the state of its loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from burnish.errors import RunError
from burnish.losses.base import AdaptiveLoss
from burnish.runs.optimizer_state import ShapeOf, flatten_optimizer, restore_optimizer
from burnish.runs.pieces import Piece
from burnish.train.learner import Learner


@dataclass(frozen=True, eq=False, slots=True)
class LearnerState:
    """State of a learner, with the methods of `training_state.StatefulObject`."""

    learner: Learner

    @property
    def is_finite(self) -> bool:
        """Whether all trained weights are finite numbers."""
        weights = self.learner.trainer.optimizer.masters.weights
        finite = torch.stack([weight.isfinite().all() for weight in weights]).all()
        return all(self.learner.trainer.world.gather(bool(finite)))

    @property
    def weights(self) -> dict[str, Piece]:
        """Name of a divided weight → what this process has of it."""
        optimizer = self.learner.trainer.optimizer
        owned = zip(optimizer.names, optimizer.masters.parts, optimizer.masters.weights, strict=True)
        return {name: Piece(part, weight.detach()) for name, part, weight in owned if not part.is_whole}

    @property
    def pieces(self) -> dict[str, Piece]:
        """Name of a tensor of the state → what this process has of it; the state of a weight's optimizer has several
        tensors, and a name with a slash at its end."""
        optimizer = self.learner.trainer.optimizer
        if not (weights := self.weights):
            return {}
        found = {
            f"{kind}/{name}": piece for name, piece in weights.items() for kind in ("weights", "optimizer/average")
        }
        owned = zip(optimizer.masters.masters, optimizer.masters.parts, strict=True)
        by_master = {id(master): Piece(part, master.detach()) for master, part in owned if not part.is_whole}
        for number, library in enumerate(optimizer.libraries):
            members = [member for group in library.param_groups for member in group["params"]]
            for index, member in enumerate(members):
                if (piece := by_master.get(id(member))) is not None:
                    found[f"optimizers/{number}/optimizer/{index}/"] = piece
        return found

    def _whole_shapes(self) -> ShapeOf:
        """Gives the shape of the whole weight that a library updates a part of."""
        masters = self.learner.trainer.optimizer.masters
        parts = {id(master): part for master, part in zip(masters.masters, masters.parts, strict=True)}
        return lambda member: parts[id(member)].whole_shape(member.shape)

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        optimizer, loss = self.learner.trainer.optimizer, self.learner.loss
        names = zip(optimizer.names, optimizer.masters.weights, strict=True)
        tensors = {f"weights/{name}": weight.detach() for name, weight in names}
        libraries, shape_of = [], self._whole_shapes()
        for index, library in enumerate(optimizer.libraries):
            library_tensors, library_values = flatten_optimizer(library, shape_of=shape_of)
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
        shape_of = self._whole_shapes()
        for index, library in enumerate(optimizer.libraries):
            own, stored = below(tensors, f"optimizers/{index}/"), values["optimizers"][index]
            restore_optimizer(library, own, stored, shape_of=shape_of)
        optimizer.load_state_dict(below(tensors, "optimizer/"), values["optimizer"])
        if isinstance(loss, AdaptiveLoss):
            loss.load_state_dict(below(tensors, "loss/"), values["loss"])
        if self.learner.pause is not None:
            self.learner.pause.load_state_dict({}, values["pause"])


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors whose names begin with the prefix, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
