"""Gradients of a stage's first step in a world, in float64: what the law of parallel training compares."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from burnish.optim.optimizer import Optimizer
from burnish.parallel.world import World
from burnish.stages.determinism import repeatable
from burnish.stages.kind import build_job, kind_of
from burnish.train.learner import Learner
from burnish.train.loop import Stage
from tests.families import without_rounding
from tests.stages.small import context_of, opened


@dataclass(frozen=True, slots=True)
class FirstStep:
    """What a process got of the first step of a stage."""

    gradients: Mapping[str, Tensor]
    """Learner and weight → its gradient, as the optimizer gets it."""
    metrics: Mapping[str, float]
    num_backwards: int
    """Backward passes of this process."""


def first_step(world: World, folder: Path, method: str, changed: Mapping[str, Any]) -> FirstStep:
    """The first step of a small stage; its weights stay as they are.

    Args:
        world: this process among those of the step.
        folder: see `tests.stages.small.write_world`.
        method: a built-in stage.
        changed: further settings.
    """
    found: dict[str, Tensor] = {}
    with _stage(world, folder, method, changed) as stage:
        for learner in stage.learners:
            _make_large(learner)
        seen = {id(learner.trainer.optimizer): learner for learner in stage.learners}

        def recorded(optimizer: Optimizer, factor: float, max_norm: float | None, world: World) -> Tensor:
            learner = seen[id(optimizer)]
            masters = optimizer.masters
            for name, master, part in zip(optimizer.names, masters.masters, masters.parts, strict=True):
                if master.grad is not None:
                    found[f"{learner.name}/{name}"] = part.whole(master.grad.detach().clone())
            optimizer.clear()
            return torch.zeros(())

        groups = next(iter(stage.source))
        with mock.patch.object(Optimizer, "step", recorded), counted_backwards() as backwards:
            metrics = stage._step(groups, 1)
    return FirstStep(found, {name: float(value) for name, value in metrics.items()}, len(backwards))


@contextmanager
def _stage(world: World, folder: Path, method: str, changed: Mapping[str, Any]) -> Iterator[Stage]:
    """A small stage in float64 without roundings to float32, its background at work."""
    context = replace(context_of(folder, method, dtype="float64", **changed), world=world)
    with (
        repeatable(0, only_deterministic=False),
        tempfile.TemporaryDirectory() as place,
        pytest.MonkeyPatch.context() as patch,
        opened(context) as data,
        data.at_work(Path(place)),
    ):
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        stage = build_job(kind_of(context.recipe.stages[0]), data, method)
        assert isinstance(stage, Stage)
        for learner in stage.learners:
            without_rounding(learner.model.causal_lm, patch)
        yield stage


@torch.no_grad()
def _make_large(learner: Learner) -> None:
    """Trained weights that matter, the same in every process; those of an adapter begin at 0."""
    draw = torch.Generator().manual_seed(7)
    for name, piece in learner.model.trained_pieces():
        part = learner.model.placement.part(name)
        drawn = torch.randn(part.whole_shape(piece.shape), generator=draw, dtype=torch.float64)
        piece.add_(part.own(0.1 * drawn.to(piece.dtype)))


@contextmanager
def counted_backwards() -> Iterator[list[None]]:
    """Context manager with a list of as many entries as there were backward passes."""
    backwards: list[None] = []
    original = torch.Tensor.backward

    def counted(tensor: Tensor, *arguments: Any, **options: Any) -> None:
        backwards.append(None)
        original(tensor, *arguments, **options)

    with mock.patch.object(torch.Tensor, "backward", counted):
        yield backwards


def furthest(found: FirstStep, wanted: FirstStep) -> float:
    """Largest difference of a gradient, relative to the largest number of its tensor, or absolute where that is below
    1e-3; infinite if other weights have gradients."""
    if found.gradients.keys() != wanted.gradients.keys():
        return math.inf
    return max(
        float((found.gradients[name] - each).abs().max()) / max(1e-3, float(each.abs().max()))
        for name, each in wanted.gradients.items()
    )
