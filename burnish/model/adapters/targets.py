"""Names of the layers that get an adapter, and of the modules that train whole. Used by `add`, which passes them to
peft."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from burnish.errors import ModelError
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.value_head import NAME, is_reward_model, output_layer
from burnish.model.vision_parts import is_frozen
from burnish.optim.rates import layer_of

GROUPS = ("all-linear", "attention", "mlp")
_ATTENTION = re.compile(r"(^|\.)[^.]*att(ention|n)[^.]*\.")
_EXPERTS = re.compile(r"(^|\.)experts\.")


def target_names(model: PreTrainedModel, settings: AdapterSettings) -> list[str]:
    """The full names of the layers that get an adapter, in the model's order.

    Raises:
        ModelError: a name, a pattern or a layer's number matches nothing, or names the output head or a layer of
            another type.
    """
    linear = [
        name
        for name, module in _linear(model)
        if module is not output_layer(model) and not is_frozen(name, settings.frozen)
    ]
    targets = settings.targets
    if not isinstance(targets, str):
        chosen = [name for target in targets for name in _by_name(model, settings, target)]
    elif targets == "all-linear":
        chosen = linear
    elif targets == "attention":
        chosen = [name for name in linear if _ATTENTION.search(name)]
    elif targets == "mlp":
        chosen = [name for name in linear if layer_of(name + ".") is not None and not _ATTENTION.search(name)]
    else:
        chosen = [name for name in linear if re.search(targets, name)]
    chosen = [name for name in dict.fromkeys(chosen) if _is_in(name, settings.layers, model)]
    if not chosen:
        raise _no_match(model, settings, f"adapter.targets: {targets}")
    return chosen


def expert_names(model: PreTrainedModel, settings: AdapterSettings) -> list[str]:
    """The full names of the tensors [experts, out, in] (or [experts, in, out]) in which experts are stored.

    Raises:
        ModelError: the model has none.
    """
    names = [name for name, p in model.named_parameters() if p.ndim == 3 and _EXPERTS.search(name)]
    names = [name for name in names if _is_in(name, settings.layers, model)]
    if not names:
        raise ModelError(
            given=f"adapter.target_experts: true, and {type(model).__name__} has no experts stored as one tensor",
            rule="experts are adapted where those of a layer are one tensor (Mixtral, Qwen MoE, gpt-oss)",
            remedy="remove adapter.target_experts; experts that are linear layers are among targets: all-linear",
        )
    return names


def modules_to_save_names(model: PreTrainedModel, settings: AdapterSettings, targets: list[str]) -> list[str]:
    """The full names of the modules that train whole; of a tied pair, the embedding's. A value head is always among
    them.

    Raises:
        ModelError: a name matches no module, or one that gets an adapter.
    """
    modules = dict(model.named_modules())
    names: list[str] = []
    for last_name in dict.fromkeys([*settings.modules_to_save, *([NAME] if is_reward_model(model) else [])]):
        matches = [name for name, m in modules.items() if _ends_with(name, last_name) and list(m.parameters())]
        if not matches:
            raise ModelError(
                given=f"adapter.modules_to_save names {last_name}",
                rule="modules_to_save names modules that train whole, without an adapter",
                remedy=f"choose from: {', '.join(sorted({name.split('.')[-1] for name in modules} - {''}))}",
            )
        names += matches
    if both := [name for name in names if any(t == name or t.startswith(f"{name}.") for t in targets)]:
        raise ModelError(
            given=f"adapter.modules_to_save and adapter.targets both name {both[0]}",
            rule="a layer either trains whole, or has an adapter",
            remedy=f"leave {both[0].split('.')[-1]} out of one of them",
        )
    head, embedding = (_name_of(model, end) for end in (output_layer(model), model.get_input_embeddings()))
    return list(dict.fromkeys(embedding if name == head and is_tied(model) else name for name in names))


def is_tied(model: PreTrainedModel) -> bool:
    """Whether embedding and head are one matrix."""
    return output_layer(model).weight is model.get_input_embeddings().weight


def embedding_and_head_names(model: PreTrainedModel) -> list[str]:
    """The full names of embedding and head."""
    return [_name_of(model, end) for end in (model.get_input_embeddings(), output_layer(model))]


def _name_of(model: PreTrainedModel, module: nn.Module) -> str:
    return next(name for name, candidate in model.named_modules() if candidate is module)


def _linear(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module]]:
    return ((name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D))


def _by_name(model: PreTrainedModel, settings: AdapterSettings, target: str) -> list[str]:
    matches = {name: module for name, module in model.named_modules() if _ends_with(name, target)}
    if not matches:
        raise _no_match(model, settings, f"adapter.targets names {target}")
    if output_layer(model) in matches.values():
        raise ModelError(
            given=f"adapter.targets names {target}",
            rule="the output head is scored as one plain matrix and takes no adapter",
            remedy=f"leave {target} out of adapter.targets; with adapter.modules_to_save=[{target}] it trains whole",
        )
    kinds = (nn.Linear, Conv1D, nn.Embedding) if settings.kind == "lora" else (nn.Linear, Conv1D)
    if unsupported := [type(module).__name__ for module in matches.values() if not isinstance(module, kinds)]:
        raise ModelError(
            given=f"adapter.targets names {target}, a {unsupported[0]}",
            rule="adapters are for linear layers, LoRA also for embeddings",
            remedy="name the linear layers in it, or train it whole with adapter.modules_to_save",
        )
    return list(matches)


def _ends_with(name: str, last: str) -> bool:
    return name == last or name.endswith(f".{last}")


def _is_in(name: str, layers: tuple[int, ...] | None, model: PreTrainedModel) -> bool:
    if layers is None:
        return True
    count = model.config.get_text_config(decoder=True).num_hidden_layers
    if beyond := [number for number in layers if number >= count]:
        raise ModelError(
            given=f"adapter.layers names {beyond[0]}",
            rule=f"layers are counted from 0, and {type(model).__name__} has {count}",
            remedy=f"name numbers from 0 to {count - 1}",
        )
    return layer_of(name + ".") in layers


def _no_match(model: PreTrainedModel, settings: AdapterSettings, given: str) -> ModelError:
    names = sorted({name.rsplit(".", 1)[-1] for name, module in _linear(model)})
    layers = "" if settings.layers is None else f" of the layers {', '.join(map(str, settings.layers))}"
    return ModelError(
        given=given,
        rule=f"targets name layers of the model{layers}",
        remedy=f"choose from: {', '.join((*names, *GROUPS))}; or write a pattern that is found in their full names",
    )
