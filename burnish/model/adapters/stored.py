"""Adapters in folders: what they say of themselves, and going on with them. Beside `add`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import PreTrainedModel

from burnish.errors import ModelError
from burnish.model.adapters.add import quiet_peft
from burnish.model.adapters.configs import kind_of
from burnish.model.adapters.initial import ADAPTER, halves, remember_beginning, split_halves, undoubled
from burnish.model.adapters.kinds import KINDS, REFUSED
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.adapters.targets import target_names
from burnish.model.value_head import JUDGES, NAME, is_reward_model, output_layer, task_of

_WEIGHTS = "adapter_model.safetensors"


def stored_adapter(folder: Path) -> PeftConfig | None:
    """What an adapter's folder says of it; None: the folder holds no adapter, or a whole model beside it.

    Raises:
        ModelError: the adapter is of a kind that is not taken, is no safetensors file, or does not say what it was
            trained on.
    """
    if not (folder / "adapter_config.json").exists() or (folder / "config.json").exists():
        return None
    try:
        config = PeftConfig.from_pretrained(str(folder))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _not_ours(folder, f"adapter_config.json cannot be read: {error}") from error
    if config.peft_type is None:
        raise _not_ours(folder, "adapter_config.json does not say of which kind the adapter is (peft_type)")
    if kind_of(config) is None:
        name = str(config.peft_type.value).lower()
        why = f" ({REFUSED[name]})" if name in REFUSED else ""
        raise _not_ours(folder, f"the adapter is of the kind {config.peft_type.value}{why}")
    if not config.base_model_name_or_path:
        raise _not_ours(folder, "adapter_config.json does not name the model that the adapter belongs to")
    if not (folder / _WEIGHTS).exists():
        raise _not_ours(folder, "there is no adapter_model.safetensors")
    return config


def continue_adapter(model: PreTrainedModel, folder: Path, stored: PeftConfig, settings: AdapterSettings) -> PeftModel:
    """Wraps the model in the adapter of a folder, which trains on; its weights are float32.

    An adapter of PiSSA or OLoRA goes on as one if the settings say so; otherwise as the plain LoRA that was saved.

    Raises:
        ModelError: the settings are not those of the adapter.
    """
    if kind_of(stored) != settings.kind:
        raise _another(folder, "kind", settings.kind, kind_of(stored))
    init = halves(folder)
    if init is not None and settings.init == init and is_reward_model(model) and stored.task_type not in JUDGES:
        raise ModelError(
            given=f"adapter.init: {init}, and a reward model that begins with the adapter in {folder}",
            rule="a language model's adapter goes on below a value head as the plain LoRA that was saved",
            remedy="remove adapter.init",
        )
    if settings.init in ("pissa", "olora") and settings.init != init:
        raise _another(folder, "init", settings.init, init or "zero")
    config = stored
    if isinstance(stored, LoraConfig) and init is not None and init == settings.init:
        config = undoubled(stored, init)
    if different := list(_different(config, settings)):
        raise _others(folder, different)
    asked_layers = None if settings.targets == "all-linear" else set(target_names(model, settings))
    if "dropout" in KINDS[settings.kind].options:
        setattr(config, KINDS[settings.kind].options["dropout"], settings.dropout)
    with quiet_peft():
        adapted = _plain(model, folder, config) if config is stored else _halved(model, folder, config)
    found_layers = set(adapted.base_model.targeted_module_names)
    if asked_layers is not None and asked_layers != found_layers:
        short = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in found_layers}))
        raise ModelError(
            given=f"adapter.targets: {settings.targets}",
            rule=f"a stage that begins with an adapter goes on with it; that in {folder} has the targets {short}",
            remedy="remove adapter.targets",
        )
    return adapted


def _plain(model: PreTrainedModel, folder: Path, config: PeftConfig) -> PeftModel:
    if is_reward_model(model) and config.task_type not in JUDGES:
        return _with_head(model, folder, config)
    return PeftModel.from_pretrained(model, str(folder), is_trainable=True, config=config)


def _with_head(model: PreTrainedModel, folder: Path, config: PeftConfig) -> PeftModel:
    """The adapter of a language model, beside a value head that begins here."""
    head = {f"base_model.model.{NAME}.{key}": tensor for key, tensor in output_layer(model).state_dict().items()}
    config.task_type, config.inference_mode = task_of(model), False
    config.modules_to_save = [*(config.modules_to_save or ()), NAME]
    adapted = get_peft_model(model, config)
    set_peft_model_state_dict(adapted, {**load_file(folder / _WEIGHTS), **head})
    return adapted


def _halved(model: PreTrainedModel, folder: Path, config: LoraConfig) -> PeftModel:
    """The first half trains on, the second stays what it began with."""
    init = config.init_lora_weights
    trained, beginning = split_halves(load_file(folder / _WEIGHTS))
    config.init_lora_weights, config.inference_mode = True, False
    adapted = get_peft_model(model, config)
    set_peft_model_state_dict(adapted, trained)
    remember_beginning(adapted, beginning)
    adapted.peft_config[ADAPTER].init_lora_weights = init
    return adapted


def _different(stored: PeftConfig, settings: AdapterSettings) -> Iterator[tuple[str, object, object]]:
    """Option, what the settings say of it, what the adapter has."""
    values = vars(stored)
    for option, name in KINDS[settings.kind].options.items():
        if option in ("dropout", "init"):  # the one may change, the other is past
            continue
        asked, found = vars_of(settings)[option], values[name]
        if option == "target_experts":
            found = bool(found)
        if option == "alpha":  # JSON may have it without a point
            found = float(found)
        if option in ("rank_pattern", "alpha_pattern"):
            asked, found = dict(asked), dict(found or {})  # type: ignore[call-overload]
        if asked != found:
            yield option, asked, found


def vars_of(settings: AdapterSettings) -> dict[str, object]:
    """Name and value of all options."""
    return {each.name: getattr(settings, each.name) for each in fields(settings)}


def _another(folder: Path, option: str, asked: object, found: object) -> ModelError:
    return _others(folder, [(option, asked, found)])


def _others(folder: Path, different: list[tuple[str, object, object]]) -> ModelError:
    """Option, what was asked for, what is there."""
    return ModelError(
        given=", ".join(f"adapter.{option}: {asked}" for option, asked, _ in different),
        rule=f"a stage that begins with an adapter goes on with it; that in {folder} has "
        + ", ".join(f"{option} {found}" for option, _, found in different),
        remedy="set " + ", ".join(f"adapter.{option}={found}" for option, _, found in different),
    )


def _not_ours(folder: Path, why: str) -> ModelError:
    return ModelError(
        given=f"model: {folder}: {why}",
        rule="a stage begins with a whole model, or with an adapter of a known kind in safetensors",
        remedy="merge the adapter into its model first, with the tool that made it",
    )
