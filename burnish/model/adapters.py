"""Adapters by peft: small trained matrices beside frozen weights. Stands between loading and training."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
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


def add_adapter(model: PreTrainedModel, settings: AdapterSettings, new_rows: Sequence[int] = ()) -> PeftModel:
    """Wraps the model; its own weights are frozen, the adapter's are float32.

    Args:
        model: the base.
        settings: LoRA's.
        new_rows: of embedding and head, which train too (peft's trainable tokens); a tied head shares the embedding's.
            Each forward then costs a copy of the embedding, and each backward its size in gradient, inside peft.

    Raises:
        ModelError: no layer has such a name, the output head is a target, or new rows cannot train apart.
    """
    targets = settings.targets if isinstance(settings.targets, str) else list(settings.targets)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
        trainable_token_indices=_rows_by_layer(model, settings, new_rows) or None,
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


def _rows_by_layer(model: PreTrainedModel, settings: AdapterSettings, new_rows: Sequence[int]) -> dict[str, list[int]]:
    """Name of the layer → its rows that train; empty: none."""
    if not new_rows:
        return {}
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    layers = [embedding] if head.weight is embedding.weight else [embedding, head]
    names = [name for layer in layers for name, module in model.named_modules() if module is layer]
    if any(name.split(".")[-1] in settings.targets for name in names):
        raise ModelError(
            given=f"add_tokens, and adapter.targets names {names[0].split('.')[-1]}",
            rule="the rows of added tokens train as they are; the embedding takes no adapter beside them",
            remedy="leave the embedding out of adapter.targets",
        )
    if head.bias is not None:
        raise ModelError(
            given=f"add_tokens with an adapter, and the output head of {type(model).__name__} has a bias",
            rule="peft computes a head with rows that train apart without its bias",
            remedy="set adapter.kind=full, or use template=plain, which needs no added tokens",
        )
    return {name: list(new_rows) for name in names}
