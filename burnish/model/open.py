"""Opens a model by its name: a hub name, or the folder of a model or an adapter. (`runs.named_model` gives a run's.)

`load` loads models for training; this module loads models for chat, evaluation, merging and serving, with transformers'
plain attention. No code that came with the files is run: safetensors only, remote code off.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from peft import PeftConfig, PeftModel
from safetensors import SafetensorError, safe_open
from transformers import AutoTokenizer, BitsAndBytesConfig, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.peft_utils import find_adapter_config_file

from burnish.builtin.places import PREFIX
from burnish.data.template import Template, choose_template
from burnish.errors import ModelError
from burnish.model.attention import install
from burnish.model.integrity import adapter_rows, check_adapter_weights, check_files, check_rows, check_tokenizer
from burnish.model.load import (
    PROCESSOR,
    check_tokens,
    default_device,
    load_config,
    load_images,
    load_model,
    load_tokenizer,
    reward_model_error,
)
from burnish.model.place import find_place, reading
from burnish.model.policy import Model
from burnish.model.probe import probe
from burnish.model.quantization import is_quantized, read_base, require_bitsandbytes
from burnish.model.route import Route
from burnish.model.settings import DtypeName, ValueHeadConfig
from burnish.model.value_head import (
    NAME,
    is_reward_model,
    pad_with,
    read_value_head_config,
    read_value_head_file,
    with_value_head,
)
from burnish.model.vision import Vision
from burnish.vision.processing import ImageProcessing
from burnish.watch.quiet import quiet_transformers

Kind = Literal["model", "adapter"]

ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_UNQUANTIZED = (
    "the adapter was trained on a quantized base, and is used with the unquantized base here: log-probabilities "
    "differ from those of the training by the quantization error"
)
_ADAPTER_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]


@dataclass(frozen=True, slots=True)
class ModelRef:
    """Reference to a model: where its files are and of which kind it is, before anything is loaded."""

    given: str
    """The name as the user wrote it."""
    place: str
    """A folder (absolute), or a hub name."""
    kind: Kind
    base: str | None
    """The adapter's base, a folder or a hub name; None: a whole model."""


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class LoadedModel:
    """Model ready for evaluation, with its tokenizer and template."""

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    template: Template | None
    """The chat template saved with the tokenizer; None: a base model without one."""
    named: ModelRef
    notes: tuple[str, ...] = ()
    """Log lines about what loading changed."""
    images: ImageProcessing | None = None
    """Image processing of a vision-language model; None: it takes text alone."""

    def __repr__(self) -> str:
        return f"LoadedModel({self.named.given}: {type(self.model).__name__})"

    @property
    def kind(self) -> Kind:
        return self.named.kind

    @property
    def base(self) -> str | None:
        """The adapter's base; None: a whole model."""
        return self.named.base

    @property
    def causal_lm(self) -> PreTrainedModel:
        """The transformers model, including adapter layers if there are any."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model


def open_model(
    name: str,
    *,
    base: str | None = None,
    dtype: DtypeName = "auto",
    device: torch.device | None = None,
    allow_reward_model: bool = False,
) -> LoadedModel:
    """Opens a model for evaluation.

    Args:
        name: a hub name, or the folder of a model or an adapter.
        base: the adapter's base, if it has moved since training; None: the one that the adapter names.
        dtype: "auto" is the checkpoint's own type.
        device: None: CUDA if there is one, else CPU.
        allow_reward_model: whether a reward model is allowed.

    Raises:
        ModelError: there is no such model, files are missing, or the adapter does not fit the base.
    """
    return open_ref(find_model(name, base), dtype=dtype, device=device, allow_reward_model=allow_reward_model)


def find_model(name: str, base: str | None = None) -> ModelRef:
    """Resolves a name to the files of a model; see `open_model`."""
    place = name
    if not name.startswith(PREFIX):
        place = find_place(name)
        place = place if Path(place).is_dir() else _hub_adapter(place) or place
    if not (Path(place) / ADAPTER_CONFIG).is_file() or (Path(place) / "config.json").is_file():
        if base is not None:
            raise ModelError(
                given=f"{name} with base {base}",
                rule=f"only an adapter has a base, and {name} is a whole model",
                remedy="leave the base out",
            )
        return ModelRef(name, place, "model", None)
    check_files(Path(place))
    base_name = base or _stored_base(Path(place))
    base_folder = Path(base_name).expanduser()
    return ModelRef(name, place, "adapter", str(base_folder.resolve()) if base_folder.is_dir() else base_name)


def open_ref(
    named: ModelRef,
    *,
    dtype: DtypeName = "auto",
    device: torch.device | None = None,
    as_trained: bool = True,
    allow_reward_model: bool = False,
) -> LoadedModel:
    """Loads a model reference; see `open_model`.

    Args:
        named: the reference, from `find_model`.
        dtype: see `open_model`.
        device: see `open_model`.
        as_trained: False: an adapter's base is loaded unquantized even if it was quantized in training.
        allow_reward_model: see `open_model`.
    """
    value_head = _adapter_value_head(Path(named.place)) if named.kind == "adapter" else None
    if value_head is not None and not allow_reward_model:
        raise reward_model_error(named.given)
    whole_model = named.place if named.base is None else named.base
    base_quantization, quantization_notes = _base_quantization(named) if named.kind == "adapter" else None, []
    if base_quantization is not None and not as_trained:
        base_quantization, quantization_notes = None, [_UNQUANTIZED]
    try:
        tokenizer = tokenizer_of(named)
        if named.kind == "model":
            check_tokens(named.place, tokenizer)
        causal_lm, notes = load_model(
            whole_model, dtype, quantization=base_quantization, device=device, allow_reward_model=allow_reward_model
        )
        if value_head is not None and not is_reward_model(causal_lm):
            causal_lm = with_value_head(causal_lm, value_head)
            pad_with(causal_lm, tokenizer.pad_token_id)
    except ModelError as error:
        if named.base is None:
            raise
        raise _base_error(named, error) from error
    model = causal_lm if named.base is None else _with_adapter(named, causal_lm, tokenizer)
    check_rows(named.given, tokenizer, causal_lm.get_input_embeddings().weight.shape[0])
    if named.kind == "adapter" and (Path(named.place) / "generation_config.json").is_file():
        causal_lm.generation_config = GenerationConfig.from_pretrained(named.place)
    if not is_quantized(model):  # a quantized model is on its device already
        model = model.to(device or default_device())
    model.eval()
    template = choose_template(tokenizer) if tokenizer.chat_template else None
    own = named.base is None or (Path(named.place) / PROCESSOR).is_file()
    images = load_images(named.place if own else whole_model, causal_lm.config, tokenizer)
    return LoadedModel(model, tokenizer, template, named, (*notes, *quantization_notes), images)


def policy_of(opened: LoadedModel) -> Model:
    """The `Model` that computes groups with an opened model, by the route that the probe determines. Call once per
    model.

    Raises:
        ModelError: no route computes what the plain model computes.
    """
    install(opened.causal_lm)
    route = probe(opened.causal_lm).route
    vision = None if opened.images is None or route is Route.UNPACKED else Vision(opened.images)
    return Model(opened.model, opened.tokenizer, route, vision=vision)


def _base_quantization(named: ModelRef) -> BitsAndBytesConfig | None:
    settings = read_base(Path(named.place))
    if settings is not None:
        require_bitsandbytes()
    return settings


def value_head_of_model(named: ModelRef) -> ValueHeadConfig | None:
    """The value head's configuration, without reading its weights; None: a language model."""
    return (
        _adapter_value_head(Path(named.place))
        if named.kind == "adapter"
        else read_value_head_config(load_config(named.place))
    )


def tokenizer_of(named: ModelRef) -> PreTrainedTokenizerBase:
    """The model's tokenizer: an adapter's own if it has one, since training may have added tokens, else the base's.

    Raises:
        ModelError: there is none, or transformers cannot read it.
    """
    if named.kind == "adapter" and (Path(named.place) / "tokenizer_config.json").is_file():
        return _adapter_tokenizer(named.place)
    return load_tokenizer(named.place if named.base is None else named.base)


def with_template(opened: LoadedModel, name_or_path: str) -> LoadedModel:
    """The same model with another template: a name of Burnish, a file, or a name of the tokenizer's."""
    return replace(opened, template=choose_template(opened.tokenizer, name_or_path))


def _hub_adapter(name: str) -> str | None:
    """The folder of a hub adapter's downloaded files; None: no adapter."""
    with reading(name):
        try:
            if find_adapter_config_file(name) is None:
                return None
            return snapshot_download(name, allow_patterns=_ADAPTER_FILES)
        except (OSError, HfHubHTTPError, HFValidationError):  # loading it as a model raises the error
            return None


def _adapter_tokenizer(folder: str) -> PreTrainedTokenizerBase:
    with quiet_transformers():
        try:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
        except Exception as error:  # the tokenizers library raises Exception itself
            raise ModelError(
                given=f"the tokenizer of the adapter {folder} cannot be read: {' '.join(str(error).split())[:300]}",
                rule="an adapter with a tokenizer has all of its files, as save_pretrained writes them",
                remedy="save the tokenizer there again, or delete its files to use that of the base",
            ) from error
    check_tokenizer(folder, tokenizer)
    return tokenizer


def _adapter_value_head(folder: Path) -> ValueHeadConfig | None:
    """The value head of an adapter; None: the adapter of a language model, or one without safetensors weights."""
    if not (folder / _ADAPTER_WEIGHTS).is_file():
        return None
    settings = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    with safe_open(folder / _ADAPTER_WEIGHTS, framework="pt") as file:
        heads = [file.get_slice(key).get_shape() for key in file.keys() if key.endswith(f".{NAME}.weight")]  # noqa: SIM118
    return read_value_head_file(folder, settings.get("task_type"), heads[0][0] if heads else 1)


def _stored_base(folder: Path) -> str:
    try:
        base = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (ValueError, AttributeError, OSError) as error:
        raise ModelError(
            given=f"{folder / ADAPTER_CONFIG} cannot be read: {error}",
            rule="an adapter's configuration is a JSON object, as peft writes it",
            remedy="save the adapter again with save_pretrained",
        ) from error
    if not base:
        raise ModelError(
            given=f"the adapter {folder} does not name its base",
            rule="an adapter is used with the model that it was trained on",
            remedy="name the base with --base",
        )
    return str(base)


def _base_error(named: ModelRef, error: ModelError) -> ModelError:
    return ModelError(
        given=f"the base {named.base} of the adapter {named.given} cannot be loaded: {error.given}",
        rule=error.rule,
        remedy=f"if the base is elsewhere, name it with --base; otherwise {error.remedy}",
    )


def _with_adapter(named: ModelRef, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PeftModel:
    folder = Path(named.place)
    keys = _adapter_keys(folder)
    rows = model.get_input_embeddings().weight.shape[0]
    try:
        stored = PeftConfig.from_pretrained(folder)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _misfit(named, error) from error
    if (needed := adapter_rows(folder, stored, tokenizer)) > rows:
        if not any("embed" in key or "wte" in key or "trainable_tokens" in key for key in keys):
            raise ModelError(
                given=f"the tokenizer of the adapter {named.given} has {needed:,} tokens, its base {rows:,}, "
                "and the adapter has no embeddings of the others",
                rule="every token has an embedding that was trained or is the base's",
                remedy="give the adapter the tokenizer of its base, or train it again with its added tokens",
            )
        # As AutoPeftModel does; the adapter has the new rows.
        model.resize_token_embeddings(needed, mean_resizing=False)
    try:
        with warnings.catch_warnings():
            # peft only warns, and computes with random numbers instead.
            warnings.filterwarnings("error", message=".*Found missing adapter keys")
            # peft 0.21 reads a property that transformers 5.23 deprecates; to be removed when peft stops doing so.
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
            # `merge` handles tied embeddings itself.
            warnings.filterwarnings("ignore", message="Model (has|with) `tie_word_embeddings=True`")
            adapted = PeftModel.from_pretrained(model, folder, config=stored)
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, SafetensorError, UserWarning) as error:
        raise _misfit(named, error) from error
    check_adapter_weights(folder / _ADAPTER_WEIGHTS)
    return adapted


def _misfit(named: ModelRef, error: Exception) -> ModelError:
    return ModelError(
        given=f"the adapter {named.given} does not fit the base {named.base}: {' '.join(str(error).split())[:300]}",
        rule="an adapter is used with the model that it was trained on",
        remedy="name the right base with --base, or save the adapter again with save_pretrained",
    )


def _adapter_keys(folder: Path) -> list[str]:
    """The names of the adapter's tensors."""
    try:
        with safe_open(folder / _ADAPTER_WEIGHTS, framework="pt") as file:
            return list(file.keys())
    except (OSError, SafetensorError) as error:
        contents = ", ".join(sorted(path.name for path in folder.iterdir())[:12])
        raise ModelError(
            given=f"no usable adapter in {folder} (it holds: {contents}); {error}",
            rule=f"an adapter's weights are in {_ADAPTER_WEIGHTS}; other formats may run code when they are read",
            remedy="save the adapter again with save_pretrained (peft writes safetensors)",
        ) from error
