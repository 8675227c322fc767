"""All that exact resume needs, as one checkpoint: weights, optimiser, place in the data, random generators, threads.

Stands between the trainer and the run folder.
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
    """Something with a memory, such as `stopping.Stopping` or a loss that adapts (`losses.base.Adapts`)."""

    def memory(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Named tensors (not copies), and values that JSON can hold."""

    def remember(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Puts back what `memory` gave."""


NOTHING: Mapping[str, StatefulObject] = MappingProxyType({})


def capture_checkpoint(
    trainer: Trainer,
    source: Source,
    step: int,
    facts: Mapping[str, Any],
    beside: Mapping[str, StatefulObject] = NOTHING,
) -> Checkpoint:
    """The state after `step` optimiser steps.

    Args:
        trainer: whose trained weights (in full precision) and optimiser are kept.
        source: whose place in the data is kept.
        step: optimiser steps done.
        facts: what must be the same when the run goes on (fingerprints), or is needed then (offsets of logs).
        beside: what else remembers something that the rest of the stage depends on, by name.

    Raises:
        DivergenceError: a weight is not a finite number: such a state is not worth going on from.
    """
    optimizer = trainer.optimizer
    if not torch.stack([weight.isfinite().all() for weight in optimizer.masters.weights]).all():
        raise DivergenceError(
            f"some weights are not finite numbers after step {step}: the training diverged.\n"
            "  to do: lower learning_rate or optimizer.max_grad_norm, and start anew with another --output"
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
    memories = {"optimizer": optimizer.memory(), **{name: each.memory() for name, each in beside.items()}}
    for owner, (remembered, numbers) in memories.items():
        tensors |= {f"{owner}/{name}": tensor for name, tensor in remembered.items()}
        values[owner] = numbers
    if isinstance(source, HoldsTensors):
        tensors |= {f"source/{name}": tensor for name, tensor in source.tensors().items()}
    random_tensors, values["random"] = capture_random()
    return Checkpoint(step, {**tensors, **random_tensors}, values)


@torch.no_grad()
def restore_checkpoint(
    checkpoint: Checkpoint, trainer: Trainer, source: Source, beside: Mapping[str, StatefulObject] = NOTHING
) -> None:
    """Puts everything back, bit for bit.

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
            rule="a run goes on with the model that it began with",
            remedy="give the model of the first run, or another --output",
        )
    for name, weight in zip(optimizer.names, optimizer.masters.weights, strict=True):
        weight.copy_(checkpoint.tensors[f"weights/{name}"])
    optimizer.masters.publish()
    for index, library in enumerate(optimizer.libraries):
        restore_optimizer(library, _below(checkpoint, f"optimizers/{index}/"), checkpoint.values["optimizers"][index])
    optimizer.remember(_below(checkpoint, "optimizer/"), checkpoint.values["optimizer"])
    for name, each in beside.items():
        each.remember(_below(checkpoint, f"{name}/"), checkpoint.values[name])
    source.restore(checkpoint.values["source"])
    if isinstance(source, HoldsTensors):
        for name, tensor in source.tensors().items():
            tensor.copy_(checkpoint.tensors[f"source/{name}"])
    restore_random(checkpoint.tensors, checkpoint.values["random"])


def _below(checkpoint: Checkpoint, prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in checkpoint.tensors.items() if k.startswith(prefix)}


def require_facts(checkpoint: Checkpoint, facts: Mapping[str, Any]) -> None:
    """Raises RunError if a fact (a fingerprint of data or model) is not what it was when the checkpoint was made."""
    for name, value in facts.items():
        if checkpoint.values["facts"].get(name) != value:
            raise RunError(
                given=f"{name} is not what it was at step {checkpoint.step} of this run",
                rule="a run goes on with the data and the model that it began with, or its result means nothing",
                remedy="put the earlier content back, or give another --output",
            )


def changed_versions(checkpoint: Checkpoint) -> list[str]:
    """Lines for people: libraries whose other version may compute other bits than the run began with."""
    before, now = checkpoint.values.get("versions", {}), _versions()
    return [
        f"{name} was {before[name]} when the checkpoint was written, and is {now[name]}: what follows may differ in "
        "its last bits from an undisturbed run"
        for name in now
        if before.get(name, now[name]) != now[name]
    ]


def _versions() -> dict[str, str]:
    """The libraries that decide the bits of a step and of a sample."""
    return {name: version(name) for name in ("torch", "transformers", "tokenizers", "peft")}
