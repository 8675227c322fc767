"""All that exact resume needs, as one checkpoint: weights, optimiser, place in the data, random generators, threads.

Stands between the trainer and the run folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from burnish.errors import DivergenceError, RunError
from burnish.model.policy import Policy
from burnish.model.quantised import scales
from burnish.runs.checkpoint import Checkpoint
from burnish.runs.optimizer_state import flatten_optimizer, restore_optimizer
from burnish.runs.random_state import capture_random, restore_random
from burnish.sources import Source
from burnish.step import Trainer

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""The integers of as many bytes as a number has."""
_BLOCK = 2**22
"""Numbers weighed at once; bounds the memory."""


def capture(trainer: Trainer, source: Source, step: int, facts: Mapping[str, Any]) -> Checkpoint:
    """The state after `step` optimiser steps.

    Args:
        trainer: whose trained weights (in full precision) and optimiser are kept.
        source: whose place in the data is kept.
        step: optimiser steps done.
        facts: what must be the same when the run goes on (fingerprints), or is needed then (offsets of logs).

    Raises:
        DivergenceError: a weight is not a finite number: such a state is not worth going on from.
    """
    optimizer = trainer.optimizer
    if not torch.stack([master.isfinite().all() for master in optimizer.masters.masters]).all():
        raise DivergenceError(
            f"some weights are not finite numbers after step {step}: the training diverged.\n"
            "  to do: lower learning_rate or clip, and start anew with another --output"
        )
    tensors: dict[str, Tensor] = {
        f"weights/{name}": master.detach()
        for name, master in zip(optimizer.names, optimizer.masters.masters, strict=True)
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
    random_tensors, values["random"] = capture_random()
    return Checkpoint(step, {**tensors, **random_tensors}, values)


@torch.no_grad()
def restore(checkpoint: Checkpoint, trainer: Trainer, source: Source) -> None:
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
    for name, master in zip(optimizer.names, optimizer.masters.masters, strict=True):
        master.copy_(checkpoint.tensors[f"weights/{name}"])
    optimizer.masters.publish()
    for index, library in enumerate(optimizer.libraries):
        prefix = f"optimizers/{index}/"
        tensors = {k.removeprefix(prefix): v for k, v in checkpoint.tensors.items() if k.startswith(prefix)}
        restore_optimizer(library, tensors, checkpoint.values["optimizers"][index])
    source.restore(checkpoint.values["source"])
    restore_random(checkpoint.tensors, checkpoint.values["random"])


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


def frozen_fingerprint(policy: Policy) -> str:
    """Identifies the weights that do not train, and what is computed with them: configuration, names, shapes and
    bits."""
    digest = hashlib.sha256(policy.causal_lm.config.to_json_string().encode())
    for name, parameter in policy.model.named_parameters():
        if not parameter.requires_grad:
            digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype} {_weighed_bits(parameter)}".encode())
    for name, tensor in (*policy.model.named_buffers(), *scales(policy.model)):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} {_weighed_bits(tensor)}".encode())
    return digest.hexdigest()


def _weighed_bits(parameter: Tensor) -> list[int]:
    """Per block, the sum of the bits as integers, each times its place: other values or another order give another."""
    bits = parameter.detach().reshape(-1).view(_INTEGERS[parameter.itemsize])
    places = torch.arange(1, _BLOCK + 1, device=bits.device)
    return [int((block.to(torch.int64) * places[: len(block)]).sum()) for block in bits.split(_BLOCK)]
