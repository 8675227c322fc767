"""Several LoRA adapters of one base become one, with weights. Behind `burnish merge`, before `merge` and `write`.

By peft's `add_weighted_adapter`; which of its methods is exact stands at `MergeMethod`.
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
"""cat: exactly the weighted sum of what the adapters add to the weights; their ranks add up. svd: the best
approximation of that sum of one rank. linear: the factors are summed, each with √weight (equal ranks), so their cross
terms come in: half of an adapter and half of it again are twice the adapter. ties (arXiv 2306.01708) and dare
(2311.03099) sum the factors too, after leaving out all but a share of their entries."""


@dataclass(frozen=True, slots=True)
class Combination:
    """How adapters become one."""

    weights: tuple[float, ...] | None = None
    """One for each adapter; None: equal ones that sum to 1."""
    method: MergeMethod = "cat"
    rank: int | None = None
    """Of svd; None: the largest of the adapters'."""
    density: float = 0.5
    """Share of the entries that ties and dare keep."""
    seed: int = 0
    """Of what dare leaves out."""


def combine(model: PreTrainedModel, folders: Sequence[Path], how: Combination) -> PeftModel:
    """Wraps a base in the combination of several adapters, which are loaded from their folders.

    Raises:
        ModelError: weights and adapters do not pair, an adapter is no plain LoRA, or they do not go together.
    """
    weights = how.weights or (1 / len(folders),) * len(folders)
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
    for config in adapted.peft_config.values():  # layers know their scales; the sum shall have scale 1
        config.use_rslora = False
    _add(adapted, names, list(weights), how)
    adapted.set_adapter(ADAPTER)
    for name in names:
        adapted.delete_adapter(name)
    return adapted


def _add(adapted: PeftModel, names: list[str], weights: list[float], how: Combination) -> None:
    options: dict[str, object] = {}
    if how.method == "svd":
        options["svd_rank"] = how.rank
    if how.method in ("ties", "dare_linear", "dare_ties"):
        options["density"] = how.density
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            torch.manual_seed(how.seed)
            adapted.base_model.add_weighted_adapter(names, weights, ADAPTER, combination_type=how.method, **options)
    except ValueError as error:
        raise ModelError(
            given=f"{len(names)} adapters, combined by {how.method}: {' '.join(str(error).split())[:300]}",
            rule="combined adapters stand beside the same layers, and have equal ranks for all methods but cat and svd",
            remedy="use --method cat or svd, or combine adapters that were trained alike",
        ) from error


def _plain_lora(folder: Path) -> LoraConfig:
    config = PeftConfig.from_pretrained(str(folder))
    reason = None
    if not isinstance(config, LoraConfig):
        reason = f"is of the kind {config.peft_type.value}"
    elif config.use_dora:
        reason = "has DoRA's lengths, whose sum is no length"
    elif config.modules_to_save or config.trainable_token_indices:
        reason = "has modules or rows that were trained whole, which are no addition to the base"
    elif config.target_parameters:
        reason = "adapts experts' tensors, which peft does not combine"
    elif config.bias != "none" or config.lora_bias:
        reason = "has biases"
    if reason is not None:
        raise ModelError(
            given=f"the adapter {folder} {reason}",
            rule="what is combined are sums beside the weights: plain LoRA adapters",
            remedy="merge it into the base alone, and combine others",
        )
    assert isinstance(config, LoraConfig), "any other kind has a reason"
    return config
