"""Training state as a checkpoint for exact resume: weights, optimizer, position in the data, random generators,
threads.

Between the learners and the run folder. The state of a role is below ``roles/<name>/``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from burnish.errors import DivergenceError, RunError
from burnish.model.snapshot import KINDS as SNAPSHOT_KINDS
from burnish.runs.checkpoint import Checkpoint
from burnish.runs.learner_state import LearnerState, below
from burnish.runs.pieces import Piece
from burnish.runs.random_state import capture_random, restore_random
from burnish.sources.base import Source
from burnish.train.learner import Learner


@runtime_checkable
class StatefulObject(Protocol):
    """Object with state to be saved, such as `early_stopping` or a loss that adapts during training."""

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The state: named tensors (not copies), and JSON values."""

    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Restores the result of `state_dict`."""


@dataclass(frozen=True, eq=False, slots=True)
class TrainState:
    """Objects of a stage whose state a checkpoint has."""

    learners: Sequence[Learner]
    """Trained roles."""
    source: Source
    others: Mapping[str, StatefulObject] = field(default_factory=dict)
    """Further objects with state by name, such as early stopping and the counters of the run."""
    snapshots: Mapping[str, StatefulObject] = field(default_factory=dict)
    """Roles whose weights change without a learner, such as a reference that is updated, by name."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints that must be equal when the run resumes."""

    @property
    def objects(self) -> dict[str, StatefulObject]:
        """All objects by the path of their state in the checkpoint; those of roles below ``roles/``."""
        learners = {learner.name: LearnerState(learner) for learner in self.learners}
        roles = {f"roles/{name}": role for name, role in {**learners, **self.snapshots}.items()}
        return {**roles, "source": self.source, **self.others}

    @property
    def pieces(self) -> dict[str, Piece]:
        """Path of a tensor in the checkpoint, or of all tensors of the state of a weight's optimizer (with a slash at
        the end) → what this process has of a divided weight."""
        found: dict[str, Piece] = {}
        for learner in self.learners:
            own = LearnerState(learner).pieces
            found |= {f"roles/{learner.name}/{name}": piece for name, piece in own.items()}
        policy = self.learners[0]
        places = ["stopping/best", *(f"roles/{name}/{kind}" for name in self.snapshots for kind in SNAPSHOT_KINDS)]
        for name, piece in LearnerState(policy).weights.items():
            found |= {f"{place}/{name}": piece for place in places}
        return found


def capture_checkpoint(state: TrainState, step: int, facts: Mapping[str, Any]) -> Checkpoint:
    """Captures the state after `step` optimizer steps.

    Args:
        state: the objects of the stage.
        step: optimizer steps done.
        facts: further values that are needed when the run resumes (offsets of logs).

    Raises:
        DivergenceError: a weight is not a finite number, so the state is useless for resuming.
    """
    if not all(LearnerState(learner).is_finite for learner in state.learners):  # the same on all processes
        raise DivergenceError(
            f"some weights are not finite numbers after step {step}: the training diverged.\n"
            "  to do: lower learning_rate or optimizer.max_grad_norm, and start again with another --output"
        )
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {"facts": {**state.facts, **facts}, "versions": _versions()}
    for path, stateful in state.objects.items():
        object_tensors, values[path] = stateful.state_dict()
        tensors |= {f"{path}/{name}": tensor for name, tensor in object_tensors.items()}
    random_tensors, values["random"] = capture_random()
    pieces = _pieces(tensors, state.pieces)
    others = {name: tensor for name, tensor in tensors.items() if name not in pieces}
    return Checkpoint(step, {**others, **random_tensors}, values, pieces)


def _pieces(tensors: Mapping[str, Tensor], divided: Mapping[str, Piece]) -> dict[str, Piece]:
    """The tensors of which this process has a part: those of the shape of its part of a divided weight."""
    found = {name: piece for name in tensors if (piece := _piece_of(name, divided)) is not None}
    return {
        name: Piece(piece.part, tensors[name])
        for name, piece in found.items()
        if tensors[name].shape == piece.own.shape
    }


def _piece_of(name: str, divided: Mapping[str, Piece]) -> Piece | None:
    """What this process has of the weight to which a tensor of a checkpoint belongs; None: of a whole one."""
    return divided.get(name) or divided.get(name.rpartition("/")[0] + "/")


@torch.no_grad()
def restore_checkpoint(checkpoint: Checkpoint, state: TrainState) -> None:
    """Restores the state, bit for bit.

    Raises:
        RunError: the checkpoint has other trained parameters than the learners.
    """
    divided = state.pieces
    for path, stateful in state.objects.items():
        names = [name for name in checkpoint.names if name.startswith(f"{path}/")]
        own = {name: checkpoint.tensor(name, _piece_of(name, divided)) for name in names}
        stateful.load_state_dict(below(own, f"{path}/"), checkpoint.values[path])
    restore_random(checkpoint.tensors, checkpoint.values["random"])


def require_fingerprints(checkpoint: Checkpoint, facts: Mapping[str, Any]) -> None:
    """Raises RunError if a fingerprint (of data or model) differs from that in the checkpoint."""
    for name, value in facts.items():
        if checkpoint.values["facts"].get(name) != value:
            raise RunError(
                given=f"{name} has changed since step {checkpoint.step} of this run",
                rule="a run resumes with the data and the model that it started with; otherwise its result is invalid",
                remedy="restore the earlier content, or give another --output",
            )


def changed_versions(checkpoint: Checkpoint) -> list[str]:
    """Log lines about libraries whose version has changed since the checkpoint, which may change the last bits."""
    before, now = checkpoint.values.get("versions", {}), _versions()
    return [
        f"{name} was {before[name]} when the checkpoint was written, and is {now[name]}: further steps may differ "
        "in their last bits from an uninterrupted run"
        for name in now
        if before.get(name, now[name]) != now[name]
    ]


def _versions() -> dict[str, str]:
    """Versions of the libraries that determine the bits of a step and of a sample."""
    return {name: version(name) for name in ("torch", "transformers", "tokenizers", "peft")}
