"""Training state as a checkpoint for exact resume: weights, optimizer, position in the data, random generators,
threads.

Between the trainer and the run folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from burnish.errors import DivergenceError, RunError
from burnish.runs.checkpoint import Checkpoint
from burnish.runs.optimizer_state import flatten_optimizer, restore_optimizer
from burnish.runs.random_state import capture_random, restore_random
from burnish.sources.base import HoldsTensors, Source
from burnish.step import Trainer


@runtime_checkable
class StatefulObject(Protocol):
    """Object with state to be saved, such as `early_stopping` or a loss that adapts during training."""

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The state: named tensors (not copies), and JSON values."""

    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Restores the result of `memory`."""


NOTHING: Mapping[str, StatefulObject] = MappingProxyType({})


def capture_checkpoint(
    trainer: Trainer,
    source: Source,
    step: int,
    facts: Mapping[str, Any],
    beside: Mapping[str, StatefulObject] = NOTHING,
) -> Checkpoint:
    """Captures the state after `step` optimizer steps.

    Args:
        trainer: its trained weights (in full precision) and optimizer are saved.
        source: its position in the data is saved.
        step: optimizer steps done.
        facts: values that must be equal when the run resumes (fingerprints), or are needed then (offsets of logs).
        beside: further objects with state that the rest of the stage depends on, by name.

    Raises:
        DivergenceError: a weight is not a finite number, so the state is useless for resuming.
    """
    optimizer = trainer.optimizer
    if not torch.stack([weight.isfinite().all() for weight in optimizer.masters.weights]).all():
        raise DivergenceError(
            f"some weights are not finite numbers after step {step}: the training diverged.\n"
            "  to do: lower learning_rate or optimizer.max_grad_norm, and start again with another --output"
        )
    tensors: dict[str, Tensor] = {
        f"weights/{name}": weight.detach()
        for name, weight in zip(optimizer.names, optimizer.masters.weights, strict=True)
    }
    values: dict[str, Any] = {
        "source": source.state(),
        "facts": dict(facts),
        "versions": _versions(),
        "optimizers": [],
    }
    for index, library in enumerate(optimizer.libraries):
        library_tensors, library_values = flatten_optimizer(library)
        tensors |= {f"optimizers/{index}/{name}": tensor for name, tensor in library_tensors.items()}
        values["optimizers"].append(library_values)
    states = {"optimizer": optimizer.state_dict(), **{name: stateful.state_dict() for name, stateful in beside.items()}}
    for owner, (state_tensors, state_values) in states.items():
        tensors |= {f"{owner}/{name}": tensor for name, tensor in state_tensors.items()}
        values[owner] = state_values
    if isinstance(source, HoldsTensors):
        tensors |= {f"source/{name}": tensor for name, tensor in source.tensors().items()}
    random_tensors, values["random"] = capture_random()
    return Checkpoint(step, {**tensors, **random_tensors}, values)


@torch.no_grad()
def restore_checkpoint(
    checkpoint: Checkpoint, trainer: Trainer, source: Source, beside: Mapping[str, StatefulObject] = NOTHING
) -> None:
    """Restores the state, bit for bit.

    Raises:
        RunError: the checkpoint has other trained parameters than the trainer.
    """
    optimizer = trainer.optimizer
    saved = {name.removeprefix("weights/") for name in checkpoint.tensors if name.startswith("weights/")}
    if saved != set(optimizer.names):
        different = sorted(saved.symmetric_difference(optimizer.names))
        raise RunError(
            given=f"the checkpoint of step {checkpoint.step} and the model differ in {len(different)} parameters, "
            f"such as {different[0]}",
            rule="a run resumes with the model that it started with",
            remedy="give the model of the first run, or another --output",
        )
    for name, weight in zip(optimizer.names, optimizer.masters.weights, strict=True):
        weight.copy_(checkpoint.tensors[f"weights/{name}"])
    optimizer.masters.write_back()
    for index, library in enumerate(optimizer.libraries):
        restore_optimizer(library, _below(checkpoint, f"optimizers/{index}/"), checkpoint.values["optimizers"][index])
    optimizer.load_state_dict(_below(checkpoint, "optimizer/"), checkpoint.values["optimizer"])
    for name, stateful in beside.items():
        stateful.load_state_dict(_below(checkpoint, f"{name}/"), checkpoint.values[name])
    source.restore(checkpoint.values["source"])
    if isinstance(source, HoldsTensors):
        for name, tensor in source.tensors().items():
            tensor.copy_(checkpoint.tensors[f"source/{name}"])
    restore_random(checkpoint.tensors, checkpoint.values["random"])


def _below(checkpoint: Checkpoint, prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in checkpoint.tensors.items() if k.startswith(prefix)}


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
