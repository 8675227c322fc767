"""Loads the policy of a stage, for training and for `burnish check`."""

from __future__ import annotations

from dataclasses import replace

import torch

from burnish.errors import RecipeError
from burnish.model.load import default_device, load_policy
from burnish.model.policy import Model
from burnish.recipe.recipe import Recipe
from burnish.stages.reward.settings import RewardModelSettings
from burnish.stages.rl.settings import RlSettings
from burnish.stages.supervised_data import StageContext


def open_policy(opener: StageContext) -> Model:
    """Loads the model that the stage starts from, and its adapter, onto the recipe's device.

    Raises:
        RecipeError: there is no such device.
        ModelError: see `load_policy`.
    """
    recipe, stage = opener.recipe, opener.stage
    policy = load_policy(
        opener.reader.model,
        adapter=recipe.adapter.settings,
        quantization=recipe.adapter.quantization,
        freeze=recipe.adapter.freeze,
        dtype=recipe.dtype,
        device=device_of(recipe),
        gradient_checkpointing=stage.gradient_checkpointing,
        add_tokens=stage.tokens_to_add,
        head_config=stage.head_config(recipe.seed) if isinstance(stage, RewardModelSettings) else None,
    )
    return replace(policy, temperature=stage.sampling.temperature) if isinstance(stage, RlSettings) else policy


def device_of(recipe: Recipe) -> torch.device:
    """The recipe's device.

    Raises:
        RecipeError: there is no such device.
    """
    if recipe.device == "cuda" and not torch.cuda.is_available():
        raise RecipeError(
            given="device: cuda",
            rule="torch sees no CUDA device on this machine",
            remedy="remove device, or check the driver and that torch was built for CUDA",
        )
    return default_device() if recipe.device == "auto" else torch.device(recipe.device)
