"""Combines several LoRA adapters of one base into one, with weights: `burnish merge` with several adapters.

Uses peft's `add_weighted_adapter`; `MergeMethod` says which of its methods is exact.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from peft import LoraConfig, PeftConfig, PeftModel
from transformers import PreTrainedModel

from burnish.errors import ModelError
from burnish.model.adapters.initial import ADAPTER

MergeMethod = Literal["cat", "svd", "linear", "ties", "dare_linear", "dare_ties"]
"""cat: exactly the weighted sum of the adapters' changes of the weights; their ranks add up. svd: the best
approximation of that sum of a given rank. linear: the factors are summed, each with √weight (equal ranks), which adds
cross terms: half of an adapter and half of it again are twice the adapter. ties (arXiv 2306.01708) and dare
(2311.03099) sum the factors too, after dropping all but a share of their entries."""


@dataclass(frozen=True, slots=True)
class Combination:
    """Settings of a combination of adapters."""

    weights: tuple[float, ...] | None = None
    """One weight per adapter; None: equal weights that sum to 1."""
    method: MergeMethod = "cat"
    rank: int | None = None
    """Rank of svd; None: the largest of the adapters'."""
    density: float = 0.5
    """Share of the entries that ties and dare keep."""
    seed: int = 0
    """Seed of the entries that dare drops."""


def combine(model: PreTrainedModel, folders: Sequence[Path], combination: Combination) -> PeftModel:
    """Wraps a base in the combination of several adapters, loaded from their folders.

    Raises:
        ModelError: weights and adapters differ in number, an adapter is no plain LoRA, or adapters do not fit together.
    """
    weights = combination.weights or (1 / len(folders),) * len(folders)
    if len(weights) != len(folders):
        raise ModelError(
            given=f"{len(weights)} weights for {len(folders)} adapters",
            rule="every adapter has a weight",
            remedy="give --weights as many numbers as there are adapters, or leave it out for equal ones",
        )
    configs = [_plain_lora(folder) for folder in folders]
    names = [f"part{number}" for number in range(len(folders))]
    adapted = PeftModel.from_pretrained(model, str(folders[0]), adapter_name=names[0], config=configs[0])
    for name, folder in zip(names[1:], folders[1:], strict=True):
        adapted.load_adapter(str(folder), name)
    for config in adapted.peft_config.values():  # layers have their own scales; the combination gets scale 1
        config.use_rslora = False
    _add(adapted, names, list(weights), combination)
    adapted.set_adapter(ADAPTER)
    for name in names:
        adapted.delete_adapter(name)
    return adapted


def _add(adapted: PeftModel, names: list[str], weights: list[float], combination: Combination) -> None:
    options: dict[str, object] = {}
    if combination.method == "svd":
        options["svd_rank"] = combination.rank
    if combination.method in ("ties", "dare_linear", "dare_ties"):
        options["density"] = combination.density
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            torch.manual_seed(combination.seed)
            adapted.base_model.add_weighted_adapter(
                names, weights, ADAPTER, combination_type=combination.method, **options
            )
    except ValueError as error:
        raise ModelError(
            given=f"{len(names)} adapters, combined by {combination.method}: {' '.join(str(error).split())[:300]}",
            rule="combined adapters have the same layers, and equal ranks for all methods but cat and svd",
            remedy="use --method cat or svd, or combine adapters that were trained with the same settings",
        ) from error


def _plain_lora(folder: Path) -> LoraConfig:
    config = PeftConfig.from_pretrained(str(folder))
    reason = None
    if not isinstance(config, LoraConfig):
        reason = f"is of the kind {config.peft_type.value}"
    elif config.use_dora:
        reason = "is DoRA, whose norms cannot be summed"
    elif config.modules_to_save or config.trainable_token_indices:
        reason = "has modules or rows that were trained whole, which are no sum with the base"
    elif config.target_parameters:
        reason = "adapts experts' tensors, which peft does not combine"
    elif config.bias != "none" or config.lora_bias:
        reason = "has biases"
    if reason is not None:
        raise ModelError(
            given=f"the adapter {folder} {reason}",
            rule="only plain LoRA adapters can be combined",
            remedy="merge it into the base alone, and combine the others",
        )
    assert isinstance(config, LoraConfig), "any other kind has a reason"
    return config
