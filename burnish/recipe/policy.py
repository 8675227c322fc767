"""The policy of a stage, loaded as its recipe says. Under `run`, which trains it, and `checks`, which tries it."""

from __future__ import annotations

import torch

from burnish.errors import RecipeError
from burnish.model.adapters import AdapterSettings
from burnish.model.load import default_device, load_policy
from burnish.model.policy import Policy
from burnish.recipe.schema import Adapter, Recipe, Sft


def open_policy(recipe: Recipe, stage: Sft) -> Policy:
    """Loads the recipe's model with its adapter, onto its device.

    Raises:
        RecipeError: there is no such device.
        ModelError: see `load_policy`.
    """
    return load_policy(
        recipe.model,
        adapter=_adapter(recipe.adapter),
        dtype=recipe.dtype,
        device=device(recipe),
        gradient_checkpointing=stage.gradient_checkpointing,
        add_tokens=stage.tokens_to_add,
    )


def device(recipe: Recipe) -> torch.device:
    """Where the recipe computes.

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


def _adapter(adapter: Adapter) -> AdapterSettings | None:
    if adapter.kind == "full":
        return None
    return AdapterSettings(adapter.rank, adapter.alpha, adapter.dropout, adapter.targets)
