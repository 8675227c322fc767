"""Stored adapters: reads an adapter's folder, and continues to train the adapter."""

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
from burnish.model.adapters.initial import ADAPTER, halves, split_halves, subtract_initial, undoubled
from burnish.model.adapters.kinds import KINDS, REFUSED
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.adapters.targets import target_names
from burnish.model.integrity import check_adapter_weights
from burnish.model.value_head import NAME, REWARD_MODEL_TASKS, is_reward_model, output_layer, peft_task_of

WEIGHTS = "adapter_model.safetensors"


def stored_adapter(folder: Path) -> PeftConfig | None:
    """The configuration of a folder's adapter; None: the folder has no adapter, or also a whole model.

    Raises:
        ModelError: the adapter is of an unsupported kind, is not stored as safetensors, or does not name its base.
    """
    if not (folder / "adapter_config.json").exists() or (folder / "config.json").exists():
        return None
    try:
        config = PeftConfig.from_pretrained(str(folder))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _unsupported(folder, f"adapter_config.json cannot be read: {error}") from error
    if config.peft_type is None:
        raise _unsupported(folder, "adapter_config.json does not have the kind of the adapter (peft_type)")
    if kind_of(config) is None:
        name = str(config.peft_type.value).lower()
        reason = f" ({REFUSED[name]})" if name in REFUSED else ""
        raise _unsupported(folder, f"the adapter is of the kind {config.peft_type.value}{reason}")
    if not config.base_model_name_or_path:
        raise _unsupported(folder, "adapter_config.json does not name the base model of the adapter")
    if not (folder / WEIGHTS).exists():
        raise _unsupported(folder, "there is no adapter_model.safetensors")
    return config


def continue_adapter(model: PreTrainedModel, folder: Path, stored: PeftConfig, settings: AdapterSettings) -> PeftModel:
    """Wraps the model in the adapter of a folder for further training; the adapter's weights are float32.

    A PiSSA or OLoRA adapter continues as such if the settings say so; otherwise as the saved plain LoRA.

    Raises:
        ModelError: the settings differ from those of the adapter.
    """
    if kind_of(stored) != settings.kind:
        raise _mismatch(folder, "kind", settings.kind, kind_of(stored))
    init = halves(folder)
    if (
        init is not None
        and settings.init == init
        and is_reward_model(model)
        and stored.task_type not in REWARD_MODEL_TASKS
    ):
        raise ModelError(
            given=f"adapter.init: {init}, and a reward model that starts from the adapter in {folder}",
            rule="a language model's adapter continues below a value head as the saved plain LoRA",
            remedy="remove adapter.init",
        )
    if settings.init in ("pissa", "olora") and settings.init != init:
        raise _mismatch(folder, "init", settings.init, init or "zero")
    config = stored
    if isinstance(stored, LoraConfig) and init is not None and init == settings.init:
        config = undoubled(stored, init)
    if differences := list(_differences(config, settings)):
        raise _mismatches(folder, differences)
    layers = None if settings.targets == "all-linear" else set(target_names(model, settings))
    if "dropout" in KINDS[settings.kind].options:
        setattr(config, KINDS[settings.kind].options["dropout"], settings.dropout)
    check_adapter_weights(folder / WEIGHTS)
    try:
        with quiet_peft():
            adapted = _continued(model, folder, config) if config is stored else _with_initial(model, folder, config)
    except (RuntimeError, ValueError, KeyError) as error:
        raise ModelError(
            given=f"the adapter in {folder} does not fit the base {stored.base_model_name_or_path}: "
            f"{' '.join(str(error).split())[:300]}",
            rule="an adapter is continued on the model that it was trained on",
            remedy="correct base_model_name_or_path in adapter_config.json, or name another adapter",
        ) from error
    stored_layers = set(adapted.base_model.targeted_module_names)
    if layers is not None and layers != stored_layers:
        short = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in stored_layers}))
        raise ModelError(
            given=f"adapter.targets: {settings.targets}",
            rule=f"a stage that starts from an adapter continues it; that in {folder} has the targets {short}",
            remedy="remove adapter.targets",
        )
    return adapted


def _continued(model: PreTrainedModel, folder: Path, config: PeftConfig) -> PeftModel:
    if is_reward_model(model) and config.task_type not in REWARD_MODEL_TASKS:
        return _with_new_head(model, folder, config)
    return PeftModel.from_pretrained(model, str(folder), is_trainable=True, config=config)


def _with_new_head(model: PreTrainedModel, folder: Path, config: PeftConfig) -> PeftModel:
    """A language model's adapter with a new value head."""
    head = {f"base_model.model.{NAME}.{key}": tensor for key, tensor in output_layer(model).state_dict().items()}
    config.task_type, config.inference_mode = peft_task_of(model), False
    config.modules_to_save = [*(config.modules_to_save or ()), NAME]
    adapted = get_peft_model(model, config)
    set_peft_model_state_dict(adapted, {**load_file(folder / WEIGHTS), **head})
    return adapted


def _with_initial(model: PreTrainedModel, folder: Path, config: LoraConfig) -> PeftModel:
    """The adapter whose first half continues to train, with its second half as the initial factors."""
    init = config.init_lora_weights
    trained, initial_factors = split_halves(load_file(folder / WEIGHTS))
    config.init_lora_weights, config.inference_mode = True, False
    adapted = get_peft_model(model, config)
    set_peft_model_state_dict(adapted, trained)
    subtract_initial(adapted, initial_factors)
    adapted.peft_config[ADAPTER].init_lora_weights = init
    return adapted


def _differences(stored: PeftConfig, settings: AdapterSettings) -> Iterator[tuple[str, object, object]]:
    """Option, the settings' value, the adapter's value."""
    values = vars(stored)
    for option, name in KINDS[settings.kind].options.items():
        if option in ("dropout", "init"):  # dropout may change; init has no effect later
            continue
        given, stored_value = vars_of(settings)[option], values[name]
        if option == "target_experts":
            stored_value = bool(stored_value)
        if option == "alpha":  # JSON may have it without a point
            stored_value = float(stored_value)
        if option in ("rank_pattern", "alpha_pattern"):
            given, stored_value = dict(given), dict(stored_value or {})  # type: ignore[call-overload]
        if given != stored_value:
            yield option, given, stored_value


def vars_of(settings: AdapterSettings) -> dict[str, object]:
    """Name and value of all options."""
    return {field.name: getattr(settings, field.name) for field in fields(settings)}


def _mismatch(folder: Path, option: str, given: object, stored: object) -> ModelError:
    return _mismatches(folder, [(option, given, stored)])


def _mismatches(folder: Path, differences: list[tuple[str, object, object]]) -> ModelError:
    """The error for differences of (option, given value, stored value)."""
    return ModelError(
        given=", ".join(f"adapter.{option}: {given}" for option, given, _ in differences),
        rule=f"a stage that starts from an adapter continues it; that in {folder} has "
        + ", ".join(f"{option} {stored}" for option, _, stored in differences),
        remedy="set " + ", ".join(f"adapter.{option}={stored}" for option, _, stored in differences),
    )


def _unsupported(folder: Path, reason: str) -> ModelError:
    return ModelError(
        given=f"model: {folder}: {reason}",
        rule="a stage starts from a whole model, or from an adapter of a supported kind in safetensors",
        remedy="merge the adapter into its model first, with the tool that made it",
    )
