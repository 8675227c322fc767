"""Loads a model by hub name or folder as a `Model`, and verifies that it computes packed groups exactly.

Runs before training. Weights load in the checkpoint's own type unless another one is given. No code of the checkpoint
is run (safetensors only, remote code off).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from peft import PeftConfig, PeftModel
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from burnish.errors import ModelError
from burnish.model import vocabulary
from burnish.model.adapters.add import add_adapter
from burnish.model.adapters.settings import AdapterSettings
from burnish.model.adapters.stored import continue_adapter, stored_adapter
from burnish.model.attention import install
from burnish.model.freezing import freeze as freeze_parameters
from burnish.model.generation_settings import finalize_generation_config
from burnish.model.integrity import (
    check_files,
    check_generation_config,
    check_rows,
    check_tokenizer,
    check_weights,
    num_rows,
)
from burnish.model.model_class import model_class_of
from burnish.model.place import find_place, reading, unloadable
from burnish.model.policy import Model
from burnish.model.probe import ProbeResult, probe
from burnish.model.quantization import (
    bitsandbytes_config,
    check_stored_quantization,
    is_quantized,
    make_trainable,
    require_bitsandbytes,
    stored_quantization,
)
from burnish.model.route import Route
from burnish.model.settings import DtypeName, Quantization, ValueHeadConfig
from burnish.model.stop_tokens import stop_tokens_of
from burnish.model.value_head import (
    REWARD_MODEL_TASKS,
    finalize_padding,
    holds_reward_model,
    is_reward_model,
    value_head_config,
    with_value_head,
)
from burnish.model.vision import Vision
from burnish.model.vision_parts import freeze_patterns
from burnish.vision.processing import ImageProcessing
from burnish.vision.registry import family_of
from burnish.vision.settings import VisionSettings

TOKENIZER, PROCESSOR = "tokenizer_config.json", "preprocessor_config.json"
RANDOM = ("dropout", "_pdrop", "dropout_prob", "jitter_noise")
"""Endings of the names of the settings of dropout and of noise."""


def load_policy(
    name: str,
    *,
    adapter: AdapterSettings | None = None,
    quantization: Quantization | None = None,
    freeze: Sequence[str] = (),
    dtype: DtypeName = "auto",
    device: torch.device | None = None,
    gradient_checkpointing: bool | int = False,
    add_tokens: Sequence[str] = (),
    head_config: ValueHeadConfig | None = None,
    vision: VisionSettings | None = None,
) -> Model:
    """Loads a causal language model for training, or a reward model.

    Args:
        name: a hub name, a folder as `save_pretrained` writes it, or a built-in model such as ``builtin:tiny``; also a
            folder with an adapter, which is trained further.
        adapter: the adapter to train; None: all weights.
        quantization: how the base under an adapter is stored; None: unquantized.
        freeze: patterns of weights that do not train, without an adapter; see `freezing`.
        dtype: "auto" is the checkpoint's own type (float32 for a float16 one, whose gradients would underflow).
        device: None: CUDA if there is one, else CPU.
        gradient_checkpointing: keep only layer inputs, and compute the layers again in the backward; a number n: only
            for every n-th layer, the others keep their activations.
        add_tokens: special tokens to add where tokenizer and model lack them; see `vocabulary`.
        head_config: the value head of a reward model. It replaces a language model's head, or is already there (then
            it is trained further); None: a language model.
        vision: settings of a vision-language model; None: the defaults.

    Raises:
        ModelError: no such model, a reward model where a language model is needed, no weights or tokenizer in it,
            missing weights, tokens that cannot be added, or an architecture that no route computes exactly.
    """
    stored = _stored_adapter(name)
    if stored is not None:
        _check_adapter_use(name, stored, adapter, head_config)
    tokenizer = load_tokenizer(name)
    device = device or default_device()
    model, notes = _load_base(_base(name), dtype, quantization, device, allow_reward_model=head_config is not None)
    if stored is not None:
        vocabulary.make_room_for_adapter(model, tokenizer, Path(name).expanduser(), stored)
    new_rows, lines = vocabulary.extend(model, tokenizer, add_tokens)
    check_rows(name, tokenizer, model.get_input_embeddings().weight.shape[0])
    notes += lines
    if not is_quantized(model):  # a quantized model is on its device already
        model = model.to(device)
    ends = () if is_reward_model(model) else stop_tokens_of(model.generation_config, tokenizer)
    install(model)
    probed = probe(model.train())
    notes += _route_notes(model, probed)
    if head_config is not None:
        model = _as_reward_model(name, model, head_config)
        notes += finalize_padding(model, tokenizer, ends)
    if gradient_checkpointing:
        _checkpoint(model, every=int(gradient_checkpointing))
    images = load_images(name, model.config, tokenizer, vision) if probed.route is not Route.UNPACKED else None
    frozen = freeze_patterns(None if images is None else images.family, vision or VisionSettings())
    if adapter is None:
        notes += freeze_parameters(model, (*frozen, *freeze), new_rows)
        trained: PreTrainedModel | PeftModel = model
    else:
        trained = _adapted(model, name, stored, replace(adapter, frozen=frozen), new_rows)
    trained.train()
    shown = None if images is None else Vision(images)
    return Model(trained, tokenizer, probed.route, notes=tuple(notes), vision=shown)


def load_images(
    name: str, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, vision: VisionSettings | None = None
) -> ImageProcessing | None:
    """The image processing of a model; None: it takes text alone.

    Args:
        name: a hub name or a folder, also of an adapter, which may have the image processor of its training.
        config: the model's configuration.
        tokenizer: its tokenizer.
        vision: resolution and folder of images; None: the defaults.

    Raises:
        ModelError: a vision-language model has no image processor, or a language model is given such settings.
    """
    if family_of(config) is None:
        if vision not in (None, VisionSettings()):
            raise ModelError(
                given=f"settings of vision, and {name}, which takes text alone",
                rule="they are of vision-language models (docs/vision.md)",
                remedy="remove the section vision, or name such a model",
            )
        return None
    has_own = (Path(name).expanduser() / PROCESSOR).is_file()
    place = find_place(name if has_own else _base(name))
    with reading(place):
        return ImageProcessing.load(place, config, tokenizer, vision)


def _check_adapter_use(
    name: str, stored: PeftConfig, adapter: AdapterSettings | None, value_head: ValueHeadConfig | None
) -> None:
    """Refuses an adapter for full training, and a reward model's adapter where a language model is needed."""
    if adapter is None:
        raise ModelError(
            given=f"model: {name} holds an adapter, and adapter.kind is full",
            rule="either all weights of a whole model train, or an adapter over them",
            remedy="set adapter.kind=lora to continue the adapter, or merge it into its model first (burnish merge)",
        )
    if stored.task_type in REWARD_MODEL_TASKS and value_head is None:
        raise reward_model_error(name)


def _as_reward_model(name: str, model: PreTrainedModel, value_head: ValueHeadConfig) -> PreTrainedModel:
    """The model with its own value head, or a new one."""
    if not is_reward_model(model):
        return with_value_head(model, value_head)
    stored = value_head_config(model)
    if replace(stored, seed=value_head.seed, names=stored.names if value_head.names else ()) != value_head:
        raise ModelError(
            given=f"{name}, a reward model with {_described(stored)}",
            rule=f"this stage trains {_described(value_head)}",
            remedy="start from the language model that it was made from, or from another reward model",
        )
    return model


def _described(value_head: ValueHeadConfig) -> str:
    numbers = "one number" if value_head.outputs == 1 else f"{value_head.outputs} numbers"
    names = f" ({', '.join(value_head.names)})" if value_head.names else ""
    probability = ", the logit of a probability" if value_head.problem == "multi_label_classification" else ""
    return f"{numbers}{names} for each {value_head.judged}{probability}"


def _checkpoint(model: PreTrainedModel, every: int) -> None:
    """Computes every n-th layer, beginning with the first, again in the backward."""
    if not model.supports_gradient_checkpointing:
        raise ModelError(
            given=f"gradient_checkpointing, and {type(model).__name__} has none in transformers",
            rule="the architecture can compute its layers again in the backward",
            remedy="leave gradient_checkpointing out, and set tokens_per_microbatch lower if memory is short",
        )
    model.activation_checkpointing_enable({"use_reentrant": False}, every_n_layers=every)


def _route_notes(model: PreTrainedModel, probed: ProbeResult) -> Iterator[str]:
    """One line if the route is not the fastest."""
    if probed.route is Route.EXPANDED:
        yield f"{type(model).__name__} computes every prompt once per response; shared: {probed.reason}"
    if probed.route is Route.UNPACKED:
        yield f"{type(model).__name__} computes every sequence in a forward of its own; packed: {probed.reason}"


def _load_base(
    name: str, dtype: DtypeName, settings: Quantization | None, device: torch.device, *, allow_reward_model: bool
) -> tuple[PreTrainedModel, list[str]]:
    """The base, quantized as the settings say; see `load_model`."""
    config = load_config(name)
    stored = stored_quantization(config)
    check_stored_quantization(name, stored, settings)
    if settings is None:
        return load_model(name, dtype, allow_reward_model=allow_reward_model)
    require_bitsandbytes()
    if stored is not None:
        return load_model(name, dtype, device=device)
    model, notes = load_model(
        name, dtype, quantization=bitsandbytes_config(settings, _compute_dtype(config, dtype)), device=device
    )
    if settings.int8_threshold and settings.bits == 8:
        notes.append("adapter.int8_threshold depends on all tokens of a microbatch: a step depends on how it is split")
    return model, notes


def _compute_dtype(config: PretrainedConfig, dtype: DtypeName) -> torch.dtype:
    """The type of the loaded weights; float32 for a float16 checkpoint."""
    if dtype != "auto":
        chosen: torch.dtype = getattr(torch, dtype)
        return chosen
    own = config.get_text_config(decoder=True).dtype or torch.float32
    return torch.float32 if own == torch.float16 else own


def _adapted(
    model: PreTrainedModel, name: str, stored: PeftConfig | None, adapter: AdapterSettings, new_rows: Sequence[int]
) -> PeftModel:
    """The model with a new adapter, or with the stored one of its folder."""
    if stored is None:
        return add_adapter(model, adapter, new_rows)
    if new_rows:
        raise ModelError(
            given=f"add_tokens, and {name} holds an adapter",
            rule="an adapter has the rows of added tokens from its first stage on",
            remedy="add the tokens in the first stage, or merge the adapter first (burnish merge)",
        )
    return continue_adapter(model, Path(name).expanduser(), stored, adapter)


def _stored_adapter(name: str) -> PeftConfig | None:
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return None
    check_files(folder)
    return stored_adapter(folder)


def _base(name: str) -> str:
    """The base model of an adapter's folder; any other name unchanged."""
    stored = _stored_adapter(name)
    return name if stored is None else str(stored.base_model_name_or_path)


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_tokenizer(name: str, add_tokens: Sequence[str] = ()) -> PreTrainedTokenizerBase:
    """The tokenizer with these special tokens added where it lacks them, as `load_policy` gives it for the same.

    Raises:
        ModelError: there is none, transformers cannot read it, or the tokens cannot be added.
    """
    adapter_alone = _stored_adapter(name) is not None and not (Path(name).expanduser() / TOKENIZER).exists()
    place = find_place(_base(name) if adapter_alone else name)
    with reading(place):
        try:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(place)
        except Exception as error:  # the tokenizers library raises Exception itself
            raise unloadable(place, "tokenizer", "tokenizer.json and tokenizer_config.json", error) from error
    check_tokenizer(place, tokenizer)
    vocabulary.add_tokens(tokenizer, add_tokens)
    return tokenizer


def load_config(name: str) -> PretrainedConfig:
    """The model's configuration.

    Raises:
        ModelError: there is none, or its architecture is unknown.
    """
    place = find_place(_base(name))
    with reading(place):
        try:
            return AutoConfig.from_pretrained(place)
        except (OSError, ValueError) as error:
            raise unloadable(place, "configuration", "config.json", error) from error


def check_tokens(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Checks before weights are read that every token has a row, by the configuration; an adapter may have the rows.

    Raises:
        ModelError: a token has no row.
    """
    if _stored_adapter(name) is None and (rows := num_rows(load_config(name))) is not None:
        check_rows(name, tokenizer, rows)


def load_model(
    name: str,
    dtype: DtypeName = "auto",
    *,
    quantization: BitsAndBytesConfig | None = None,
    device: torch.device | None = None,
    allow_reward_model: bool = False,
) -> tuple[PreTrainedModel, list[str]]:
    """The model, and log lines about what loading changed.

    Args:
        name: a hub name or a folder.
        dtype: see `load_policy`.
        quantization: how its linear layers are stored; None: as in the checkpoint.
        device: device of quantized layers, which are not moved afterwards; None: see `default_device`.
        allow_reward_model: whether the files may be a reward model.

    Raises:
        ModelError: the files are an unexpected reward model, there are no weights, or weights of the architecture are
            missing.
    """
    config = load_config(name)
    if holds_reward_model(config) and not allow_reward_model:
        raise reward_model_error(name)
    model_class = model_class_of(config)
    notes = [*_disable_dropout(config), *_dequantize_experts(config)]
    place = find_place(name)
    quantizes = quantization is not None or stored_quantization(config) is not None
    weight_dtype = _compute_dtype(config, dtype) if quantizes or dtype != "auto" else "auto"
    options = {"quantization_config": quantization} if quantization is not None else {}
    if quantizes:
        options["device_map"] = {"": device or default_device()}
    with reading(place):
        try:
            model, info = model_class.from_pretrained(
                place, config=config, dtype=weight_dtype, use_safetensors=True, output_loading_info=True, **options
            )
        except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
            raise unloadable(place, "model", "safetensors weights (model.safetensors)", error) from error
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            given=f"the weights of {name} lack {len(missing)} tensors, such as {missing[0]}",
            rule="every parameter of the architecture is in the checkpoint; a missing one would start at random",
            remedy="save the model again with save_pretrained, or name another model",
        )
    check_weights(name, model)
    if model.dtype == torch.float16:
        notes.append(
            "the checkpoint is float16, in which small gradients underflow: it is trained and saved as float32"
        )
        model = model.float()
    make_trainable(model)
    if not holds_reward_model(config):
        if (Path(place) / "generation_config.json").is_file():
            check_generation_config(name, model.generation_config, model.get_input_embeddings().weight.shape[0])
        notes += finalize_generation_config(model)
    return model, notes


def reward_model_error(name: str) -> ModelError:
    """The error for a reward model given as a language model."""
    return ModelError(
        given=f"{name} is a reward model: it scores answers, and generates none",
        rule="here a language model is needed",
        remedy="name the language model; reward models are trained by burnish reward, and evaluated on pairs by "
        "burnish eval",
    )


def _disable_dropout(config: PretrainedConfig) -> Iterator[str]:
    """Sets every dropout and noise of the configuration to 0, since with them a step depends on how it is split."""
    text = config.get_text_config(decoder=True)
    for name, value in text.to_dict().items():
        if name.endswith(RANDOM) and isinstance(value, float) and value > 0:
            setattr(text, name, 0.0)
            yield f"{name} is {value} in the model's configuration; it is 0 here, and in what is saved"


def _dequantize_experts(config: PretrainedConfig) -> Iterator[str]:
    """Dequantizes experts in 4 bits (MXFP4, gpt-oss), which have no backward."""
    stored = config.to_dict().get("quantization_config") or {}
    if stored.get("quant_method") == "mxfp4":
        config.quantization_config["dequantize"] = True
        yield "the checkpoint's experts are in MXFP4, which cannot be trained: they are dequantized to 16 bits"
