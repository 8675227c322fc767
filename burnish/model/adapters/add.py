"""Adds an adapter to a model with frozen weights, by peft. Runs between loading and training."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel

from burnish.errors import ModelError
from burnish.model.adapters.configs import CONFIGS
from burnish.model.adapters.initial import ADAPTER, initialize_from_weights
from burnish.model.adapters.kinds import KINDS
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.adapters.targets import (
    embedding_and_head_names,
    expert_names,
    is_tied,
    modules_to_save_names,
    target_names,
)
from burnish.model.value_head import is_reward_model, output_layer, peft_task_of


def add_adapter(
    model: PreTrainedModel, settings: AdapterSettings, new_rows: Sequence[int] = (), *, begun: bool = True
) -> PeftModel:
    """Wraps the model in a new adapter; its own weights are frozen, the adapter's are float32.

    Before training, the wrapped model computes what the base computes, and `disable_adapter` gives the base bit for
    bit.

    Args:
        model: the base.
        settings: the adapter's settings.
        new_rows: rows of added tokens in embedding and head, which train too (peft's trainable tokens); a tied head
            shares the embedding's. Each forward then costs a copy of the embedding, and each backward its size in
            gradient, inside peft.
        begun: whether PiSSA's and OLoRA's initial factors are computed; False if only shapes matter.

    Raises:
        ModelError: no layer has such a name, the output head is a target, new rows cannot train separately, or peft
            cannot adapt these layers in this way.
    """
    config = peft_config(model, settings, new_rows)
    targets = set(config.target_modules or ())
    try:
        with quiet_peft():
            adapted = get_peft_model(model, config)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise ModelError(
            given=f"adapter.kind: {settings.kind} on {type(model).__name__}: {' '.join(str(error).split())[:300]}",
            rule="peft can add the adapter to the layers that targets name",
            remedy="change adapter.targets, or the option in the message",
        ) from error
    _check_adapted(adapted, targets)
    if begun and settings.init in ("pissa", "olora"):
        _check_factors(adapted, settings)
        with quiet_peft():
            initialize_from_weights(adapted, settings.init)
        adapted.peft_config[ADAPTER].init_lora_weights = settings.init
    return adapted


def peft_config(model: PreTrainedModel, settings: AdapterSettings, new_rows: Sequence[int] = ()) -> PeftConfig:
    """peft's configuration of the adapter.

    Raises:
        ModelError: see `add_adapter`.
    """
    kind = KINDS[settings.kind]
    targets = target_names(model, settings)
    modules_to_save = modules_to_save_names(model, settings, targets)
    options: dict[str, object] = {"target_modules": targets, "modules_to_save": modules_to_save or None, **kind.fixed}
    for option in kind.options.keys() - {"init", "target_experts"}:
        options[kind.options[option]] = getattr(settings, option)
    if settings.kind == "lora":
        options |= _lora_options(model, settings, targets, modules_to_save, new_rows)
    elif settings.kind == "ia3":
        options["feedforward_modules"] = [
            name for name in targets if name.endswith(("down_proj", "fc2", "w2", "c_proj"))
        ]
    _check_embedding_and_head(model, settings, modules_to_save, new_rows)
    _check_patterns(settings, targets)
    return CONFIGS[settings.kind](task_type=peft_task_of(model) if is_reward_model(model) else "CAUSAL_LM", **options)


def _lora_options(
    model: PreTrainedModel,
    settings: AdapterSettings,
    targets: list[str],
    modules_to_save: list[str],
    new_rows: Sequence[int],
) -> dict[str, object]:
    rows = _rows_by_layer(model, targets, modules_to_save, new_rows)
    embedding, _ = embedding_and_head_names(model)
    return {
        "init_lora_weights": "gaussian" if settings.init == "gaussian" else True,
        "target_parameters": expert_names(model, settings) if settings.target_experts else None,
        "trainable_token_indices": rows or None,
        "ensure_weight_tying": is_tied(model) and embedding in modules_to_save,
        "rank_pattern": dict(settings.rank_pattern),
        "alpha_pattern": dict(settings.alpha_pattern),
    }


def _check_embedding_and_head(
    model: PreTrainedModel, settings: AdapterSettings, modules_to_save: list[str], new_rows: Sequence[int]
) -> None:
    embedding, _ = embedding_and_head_names(model)
    if settings.kind != "lora" and is_tied(model) and embedding in modules_to_save:
        raise ModelError(
            given=f"adapter.modules_to_save names the embedding of {type(model).__name__}, which is its head too",
            rule=f"peft keeps the two tied with LoRA, but not with {settings.kind}",
            remedy="set adapter.kind=lora, or leave the embedding out of adapter.modules_to_save",
        )
    if settings.kind != "lora" and new_rows:
        raise ModelError(
            given=f"add_tokens with adapter.kind: {settings.kind}",
            rule="rows of added tokens train with LoRA (peft's trainable tokens), but not with other adapters",
            remedy="set adapter.kind=lora or full, or use chat_template=plain, which needs no added tokens",
        )


def _check_patterns(settings: AdapterSettings, targets: list[str]) -> None:
    """Refuses a pattern without matches, which peft would ignore."""
    for option, patterns in (("rank_pattern", settings.rank_pattern), ("alpha_pattern", settings.alpha_pattern)):
        for pattern in patterns:
            if not any(re.match(rf"(.*\.)?({pattern})$", name) for name in targets):
                raise ModelError(
                    given=f"adapter.{option} names {pattern}",
                    rule="a name or pattern matches the end of the name of some adapted layer, as in peft",
                    remedy=f"adapted layers are such as {', '.join(targets[:3])}",
                )


def _check_adapted(model: PeftModel, targets: Iterable[str]) -> None:
    """Checks that every target has an adapter, since in some models with experts peft takes their names for
    experts'."""
    adapted = {name for name, module in model.get_base_model().named_modules() if isinstance(module, BaseTunerLayer)}
    if missing := sorted(name for name in targets if not any(_ends_with(layer, name) for layer in adapted)):
        raise ModelError(
            given=f"adapter.targets: {missing[0]} and {len(missing) - 1} others get no adapter from peft",
            rule="in models with experts, peft takes some names for experts' tensors, as older checkpoints had them",
            remedy="set adapter.targets=attention, with adapter.target_experts=true if experts should be adapted too",
        )


def _ends_with(name: str, last: str) -> bool:
    return name == last or name.endswith(f".{last}")


def _check_factors(model: PeftModel, settings: AdapterSettings) -> None:
    """Checks that PiSSA and OLoRA have matrices of linear layers of at least their rank."""
    for name, layer in model.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        weight = layer.get_base_layer().weight
        if (
            weight.ndim != 2
            or not weight.is_floating_point()
            or layer.r[ADAPTER] > min(weight.shape)
            or (not isinstance(layer.get_base_layer(), torch.nn.Linear))
        ):
            raise ModelError(
                given=f"adapter.init: {settings.init} with rank {layer.r[ADAPTER]} on {name.rpartition('model.')[2]}, "
                f"{tuple(weight.shape)}",
                rule=f"{settings.init} is initialized from a linear layer's matrix, with at most the matrix's rank",
                remedy="lower adapter.rank, name other adapter.targets, or remove adapter.init",
            )


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Context manager without peft's warnings about its own code."""
    with warnings.catch_warnings():
        # peft 0.21 reads a property that transformers 5.23 deprecates; to be removed when peft stops doing so.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        # About patterns that peft adds itself; patterns of the settings are checked.
        warnings.filterwarnings("ignore", message="The following (rank|alpha)_pattern keys", category=RuntimeWarning)
        yield


def _rows_by_layer(
    model: PreTrainedModel, targets: list[str], modules_to_save: list[str], new_rows: Sequence[int]
) -> dict[str, list[int]]:
    """Name of the layer → its rows that train separately; empty: none (a layer that trains whole trains its rows
    too)."""
    if not new_rows:
        return {}
    embedding, head = embedding_and_head_names(model)
    names = [name for name in ([embedding] if is_tied(model) else [embedding, head]) if name not in modules_to_save]
    if any(name in targets for name in names):
        raise ModelError(
            given=f"add_tokens, and adapter.targets names {embedding.split('.')[-1]}",
            rule="the rows of added tokens train without an adapter; the embedding takes no adapter then",
            remedy="leave the embedding out of adapter.targets",
        )
    if head in names + [embedding] * is_tied(model) and output_layer(model).bias is not None:
        raise ModelError(
            given=f"add_tokens with an adapter, and the output head of {type(model).__name__} has a bias",
            rule="peft computes a head with separately trained rows without its bias",
            remedy="set adapter.kind=full, or use chat_template=plain, which needs no added tokens",
        )
    return {name: list(new_rows) for name in names}
