"""Adapters by peft: small trained matrices beside frozen weights. Stands between loading and training."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
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
        with _quiet_peft():
            return get_peft_model(model, config)
    except ValueError as error:
        names = sorted({name.rsplit(".", 1)[-1] for name, layer in model.named_modules() if not list(layer.children())})
        raise ModelError(
            given=f"adapter.targets: {settings.targets}; {error}",
            rule="targets name layers of the model",
            remedy=f"choose from: {', '.join(names)}, or all-linear",
        ) from error


def stored_adapter(folder: Path) -> LoraConfig | None:
    """What an adapter's folder says of it; None: the folder holds no adapter, or a whole model beside it.

    Raises:
        ModelError: the adapter is of another kind, is no safetensors file, or does not say what it was trained on.
    """
    if not (folder / "adapter_config.json").exists() or (folder / "config.json").exists():
        return None
    try:
        config = PeftConfig.from_pretrained(str(folder))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _not_ours(folder, f"adapter_config.json cannot be read: {error}") from error
    if not isinstance(config, LoraConfig):
        raise _not_ours(folder, f"the adapter is of the kind {config.peft_type}")
    if not config.base_model_name_or_path:
        raise _not_ours(folder, "adapter_config.json does not name the model that the adapter belongs to")
    if not (folder / "adapter_model.safetensors").exists():
        raise _not_ours(folder, "there is no adapter_model.safetensors")
    return config


def go_on_with(model: PreTrainedModel, folder: Path, stored: LoraConfig, settings: AdapterSettings) -> PeftModel:
    """Wraps the model in the adapter of a folder, which trains on; its weights are float32.

    Raises:
        ModelError: the settings are not those of the adapter.
    """
    asked = {"rank": settings.rank, "alpha": settings.alpha}
    found = {"rank": stored.r, "alpha": float(stored.lora_alpha)}
    if different := [name for name in asked if asked[name] != found[name]]:
        raise ModelError(
            given=", ".join(f"adapter.{name}: {asked[name]}" for name in different),
            rule=f"a stage that begins with an adapter goes on with it; that in {folder} has "
            + ", ".join(f"{name} {found[name]}" for name in different),
            remedy="set " + ", ".join(f"adapter.{name}={found[name]}" for name in different),
        )
    if not isinstance(settings.targets, str) and set(settings.targets) != set(stored.target_modules or ()):
        raise ModelError(
            given=f"adapter.targets: {', '.join(settings.targets)}",
            rule=f"a stage that begins with an adapter goes on with it; that in {folder} has the targets "
            f"{', '.join(sorted(stored.target_modules or ()))}",
            remedy="remove adapter.targets",
        )
    stored.lora_dropout = settings.dropout
    with _quiet_peft():
        return PeftModel.from_pretrained(model, str(folder), is_trainable=True, config=stored)


def _not_ours(folder: Path, why: str) -> ModelError:
    return ModelError(
        given=f"model: {folder}: {why}",
        rule="a stage begins with a whole model, or with a LoRA adapter in safetensors that names its model",
        remedy="merge the adapter into its model first, with the tool that made it",
    )


@contextmanager
def _quiet_peft() -> Iterator[None]:
    """peft 0.21 reads a property that transformers 5.23 deprecates; to be removed when peft stops doing so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield


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
