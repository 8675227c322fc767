"""Adapters by peft: small trained matrices beside frozen weights. Stands between loading and training."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from burnish.errors import ModelError


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """LoRA (arXiv 2106.09685): W x + (alpha / rank) · B A x, with A and B trained and W frozen."""

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    """On the adapter's input. With dropout a step is no longer independent of the split into microbatches."""
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Names of the layers, or all linear layers except the output head."""


def add_adapter(model: PreTrainedModel, settings: AdapterSettings) -> PeftModel:
    """Wraps the model; its own weights are frozen, the adapter's are float32.

    Raises:
        ModelError: no layer has such a name, or the output head is a target.
    """
    targets = settings.targets if isinstance(settings.targets, str) else list(settings.targets)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
    )
    if "lm_head" in targets:
        raise ModelError(
            given="adapter.targets names lm_head",
            rule="the output head is scored as one plain matrix and takes no adapter",
            remedy="leave lm_head out of adapter.targets",
        )
    try:
        with warnings.catch_warnings():
            # peft 0.21 reads a property that transformers 5.23 deprecates; to be removed when peft stops doing so.
            warnings.filterwarnings(
                "ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning
            )
            return get_peft_model(model, config)
    except ValueError as error:
        names = sorted({name.rsplit(".", 1)[-1] for name, layer in model.named_modules() if not list(layer.children())})
        raise ModelError(
            given=f"adapter.targets: {settings.targets}; {error}",
            rule="targets name layers of the model",
            remedy=f"choose from: {', '.join(names)}, or all-linear",
        ) from error
