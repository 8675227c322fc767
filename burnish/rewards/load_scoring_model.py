"""Loads a model that values responses, onto the device of the run. Imported when it first grades."""

from __future__ import annotations

import torch

from burnish.model.load import default_device
from burnish.model.open import LoadedModel, ModelRef, open_ref, policy_of
from burnish.model.policy import Model


def load_scoring_model(reference: ModelRef, device: str | None) -> tuple[LoadedModel, Model]:
    """The model with its template, and over packed groups. The state of random generators is kept, since that of the
    run depends on it.

    Args:
        reference: a reward model, whose configuration was checked.
        device: torch's name of it; None: CUDA if there is one, else the CPU.
    """
    chosen = default_device() if device is None else torch.device(device)
    with torch.random.fork_rng([chosen] if chosen.type == "cuda" else []):
        opened = open_ref(reference, device=chosen, allow_reward_model=True)
        return opened, policy_of(opened)
