"""Starts a run in this process: alone, or as one of the processes that were started together."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.metadata import version

import torch

from burnish.parallel.agreement import require_agreement
from burnish.parallel.place import Place
from burnish.parallel.processes import joined
from burnish.recipe.read import ResolvedRecipe
from burnish.stages.models import device_of
from burnish.stages.result import RunResult
from burnish.stages.run import run
from burnish.train.callbacks import NO_CALLBACKS, Callbacks


def start(recipe: ResolvedRecipe, *, callbacks: Callbacks = NO_CALLBACKS) -> RunResult:
    """Runs, resumes or extends a recipe, see `stages.run.run`.

    Of several processes (`Place.from_environment`), every one calls this with the same recipe, and gets the same
    result.

    Args:
        recipe: the recipe; the run folder is that of the main process.
        callbacks: functions of the user, which the main process calls.

    Raises:
        UserError: a mistake that the user can correct, with the remedy; also, another process is lost.
        Interrupted: stopped after a checkpoint was written.
        DivergenceError: the loss is not finite any more.
    """
    place, settings = Place.from_environment(), recipe.recipe.parallel.started(os.environ)
    recipe = replace(recipe, recipe=recipe.recipe.model_copy(update={"parallel": settings}))
    mesh = settings.mesh(1 if place is None else place.size)
    if place is None:
        return run(recipe, callbacks=callbacks)
    with joined(place, _own_device(recipe, place), settings.timeout_s, mesh) as world:
        require_agreement(world, _facts(recipe))
        return run(recipe.at(world.gather(str(recipe.recipe.output))[0]), world, callbacks=callbacks)


def _facts(recipe: ResolvedRecipe) -> dict[str, str]:
    """Settings and versions that must be equal on all processes."""
    versions = {f"version of {name}": version(name) for name in ("burnish", "torch", "transformers")}
    return {**versions, **{key: str(value) for key, value in recipe.identity().items()}}


def _own_device(recipe: ResolvedRecipe, place: Place) -> torch.device:
    """The device of this process: of several GPUs, that with its number on this machine."""
    device = device_of(recipe.recipe)
    if device.type != "cuda":
        return device
    torch.cuda.set_device(place.local_rank % torch.cuda.device_count())
    return torch.device("cuda", torch.cuda.current_device())
