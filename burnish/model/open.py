"""Opening whatever a user names as a model: a hub name, a folder with a model, one with an adapter, or a run folder.

Stands beside `load`, which makes policies to train; here are models to talk to, to measure, to merge and to serve, with
transformers' plain attention. Nothing that came with the files is run: safetensors only, remote code off.
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

from burnish.data.template import Template, choose_template
from burnish.errors import ModelError
from burnish.model.attention import install
from burnish.model.load import default_device, is_reward_model_folder, load_config, load_model, load_tokenizer
from burnish.model.policy import Model
from burnish.model.probe import probe
from burnish.model.quantization import is_quantized, read_base, require_installed
from burnish.model.settings import DtypeName, ValueHeadConfig
from burnish.model.value_head import (
    NAME,
    is_reward_model,
    pad_with,
    read_beside,
    read_value_head_config,
    with_value_head,
)
from burnish.watch.quiet import quiet_transformers

Kind = Literal["model", "adapter"]

ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_RUN_MARK = "identity.json"
"""Every run folder has it, from its first moment on (see `runs.folder`)."""
_UNQUANTISED = (
    "the adapter was trained beside quantised weights, and is used with the unquantised ones here: log-probabilities "
    "differ from those of the training by what quantising changed"
)
_ADAPTER_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]


@dataclass(frozen=True, slots=True)
class ModelRef:
    """What a user's name for a model means, before anything is loaded."""

    given: str
    """As the user wrote it."""
    place: str
    """A folder (absolute), or a hub name."""
    kind: Kind
    base: str | None
    """The adapter's base, a folder or a hub name; None: it is a whole model."""
    run: Path | None
    """The run folder that it came from; None: it was not named by one."""


@dataclass(frozen=True, eq=False, slots=True)
class LoadedModel:
    """A model, ready to evaluate."""

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    template: Template | None
    """What is saved with the tokenizer; None: nothing is, it is a base model."""
    named: ModelRef
    notes: tuple[str, ...] = ()
    """What loading changed about the files, in lines for people."""

    @property
    def kind(self) -> Kind:
        return self.named.kind

    @property
    def base(self) -> str | None:
        """The adapter's base; None: it is a whole model."""
        return self.named.base

    @property
    def causal_lm(self) -> PreTrainedModel:
        """The transformers model inside, with adapter layers in place if there are any."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model


def open_model(
    name: str,
    *,
    base: str | None = None,
    dtype: DtypeName = "auto",
    device: torch.device | None = None,
    may_judge: bool = False,
) -> LoadedModel:
    """Opens a model for evaluation.

    Args:
        name: a hub name, or a folder: a model's, an adapter's or a run's.
        base: the adapter's base, where it is no longer where the adapter remembers it; None: as it remembers.
        dtype: "auto" is the checkpoint's own type.
        device: None: CUDA if there is one, else CPU.
        may_judge: whether it may be a reward model.

    Raises:
        ModelError: there is no such thing, its run is not finished, files are missing from it, or the adapter does
            not fit the base.
    """
    return open_ref(find_model(name, base), dtype=dtype, device=device, may_judge=may_judge)


def resolve_model(name: str) -> str:
    """Where a training begins that names a run: the folder of the model that the run wrote. Any other name as it is.

    Raises:
        ModelError: the run is not finished.
    """
    folder = Path(name).expanduser()
    return str(_model_of_run(name, folder.resolve())) if (folder / _RUN_MARK).is_file() else name


def find_model(name: str, base: str | None = None) -> ModelRef:
    """What a name means; see `open_model`."""
    folder = Path(name).expanduser()
    run = folder.resolve() if (folder / _RUN_MARK).is_file() else None
    if run is not None:
        folder = _model_of_run(name, run)
    place = str(folder.resolve()) if folder.is_dir() else name
    if not folder.is_dir() and (found := _hub_adapter(name)):
        place = found
    if not (Path(place) / ADAPTER_CONFIG).is_file() or (Path(place) / "config.json").is_file():
        if base is not None:
            raise ModelError(
                given=f"{name} with base {base}",
                rule=f"only an adapter has a base, and {name} is a whole model",
                remedy="leave the base out",
            )
        return ModelRef(name, place, "model", None, run)
    named = base or _remembered_base(Path(place))
    elsewhere = Path(named).expanduser()
    return ModelRef(name, place, "adapter", str(elsewhere.resolve()) if elsewhere.is_dir() else named, run)


def open_ref(
    named: ModelRef,
    *,
    dtype: DtypeName = "auto",
    device: torch.device | None = None,
    as_trained: bool = True,
    may_judge: bool = False,
) -> LoadedModel:
    """Loads what `find_model` found; see `open_model`.

    Args:
        named: what.
        dtype: see `open_model`.
        device: see `open_model`.
        as_trained: False: an adapter's base is loaded unquantised also where it was quantised in training.
        may_judge: see `open_model`.
    """
    judging = _judging(Path(named.place)) if named.kind == "adapter" else None
    if judging is not None and not may_judge:
        raise is_reward_model_folder(named.given)
    whole = named.place if named.base is None else named.base
    trained_on, aside = _base_of_training(named) if named.kind == "adapter" else None, []
    if trained_on is not None and not as_trained:
        trained_on, aside = None, [_UNQUANTISED]
    # The adapter's own, if it brings one: training may have added tokens.
    brings = named.kind == "adapter" and (Path(named.place) / "tokenizer_config.json").is_file()
    try:
        tokenizer = _adapters_tokenizer(named.place) if brings else load_tokenizer(whole)
        causal_lm, notes = load_model(whole, dtype, quantisation=trained_on, device=device, may_judge=may_judge)
        if judging is not None and not is_reward_model(causal_lm):
            causal_lm = with_value_head(causal_lm, judging)
            pad_with(causal_lm, tokenizer.pad_token_id)
    except ModelError as error:
        if named.base is None:
            raise
        raise _no_base(named, error) from error
    model = causal_lm if named.base is None else _adapted(named, causal_lm, tokenizer)
    if named.kind == "adapter" and (Path(named.place) / "generation_config.json").is_file():
        causal_lm.generation_config = GenerationConfig.from_pretrained(named.place)
    if not is_quantized(model):  # which is where it belongs already
        model = model.to(device or default_device())
    model.eval()
    template = choose_template(tokenizer) if tokenizer.chat_template else None
    return LoadedModel(model, tokenizer, template, named, (*notes, *aside))


def policy_of(opened: LoadedModel) -> Model:
    """The policy that computes groups with an opened model, by the route that the probe finds. Once for each model.

    Raises:
        ModelError: no route computes what the plain model computes.
    """
    install(opened.causal_lm)
    return Model(opened.model, opened.tokenizer, probe(opened.causal_lm).route)


def _base_of_training(named: ModelRef) -> BitsAndBytesConfig | None:
    settings = read_base(Path(named.place))
    if settings is not None:
        require_installed()
    return settings


def value_head_of_model(named: ModelRef) -> ValueHeadConfig | None:
    """The value head of what was found, its weights unread; None: it is a language model."""
    return _judging(Path(named.place)) if named.kind == "adapter" else read_value_head_config(load_config(named.place))


def with_template(opened: LoadedModel, name_or_path: str) -> LoadedModel:
    """The same with another template: one of ours, a file, or one of the tokenizer's."""
    return replace(opened, template=choose_template(opened.tokenizer, name_or_path))


def _model_of_run(name: str, run: Path) -> Path:
    if not (run / "model").is_dir() or not (run / "finished.json").is_file():
        raise ModelError(
            given=f"{name} is a run that is not finished",
            rule="a run writes its model when it ends",
            remedy="give the command that began the run once more: it goes on where it stopped",
        )
    return run / "model"


def _hub_adapter(name: str) -> str | None:
    """The folder of a hub adapter's files; None: it is no adapter, or no hub name, or cannot be reached."""
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        return None
    with quiet_transformers():
        try:
            if find_adapter_config_file(name) is None:
                return None
            return snapshot_download(name, allow_patterns=_ADAPTER_FILES)
        except (OSError, HfHubHTTPError, HFValidationError):  # loading it as a model says what is wrong
            return None


def _adapters_tokenizer(folder: str) -> PreTrainedTokenizerBase:
    with quiet_transformers():
        try:
            return AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError, TypeError, ImportError) as error:
            raise ModelError(
                given=f"the tokenizer of the adapter {folder} cannot be read: {' '.join(str(error).split())[:300]}",
                rule="an adapter that brings a tokenizer brings all of it, as save_pretrained writes it",
                remedy="save the tokenizer there again, or delete its files to use that of the base",
            ) from error


def _judging(folder: Path) -> ValueHeadConfig | None:
    """The value head that an adapter brings; None: it is one of a language model, or has no weights that are read."""
    if not (folder / _ADAPTER_WEIGHTS).is_file():
        return None
    settings = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    with safe_open(folder / _ADAPTER_WEIGHTS, framework="pt") as file:
        heads = [file.get_slice(key).get_shape() for key in file.keys() if key.endswith(f".{NAME}.weight")]  # noqa: SIM118
    return read_beside(folder, settings.get("task_type"), heads[0][0] if heads else 1)


def _remembered_base(folder: Path) -> str:
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
            given=f"the adapter {folder} does not say what its base is",
            rule="an adapter is computed with the model that it was trained on",
            remedy="name the base with --base",
        )
    return str(base)


def _no_base(named: ModelRef, error: ModelError) -> ModelError:
    return ModelError(
        given=f"the base {named.base} of the adapter {named.given} cannot be loaded: {error.given}",
        rule=error.rule,
        remedy=f"if the base is elsewhere, name it with --base; otherwise {error.remedy}",
    )


def _adapted(named: ModelRef, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PeftModel:
    folder = Path(named.place)
    keys = _adapter_keys(folder)
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        if not any("embed" in key or "wte" in key or "trainable_tokens" in key for key in keys):
            raise ModelError(
                given=f"the tokenizer of the adapter {named.given} has {len(tokenizer):,} tokens, its base {rows:,}, "
                "and the adapter has no embeddings of the others",
                rule="every token has an embedding that was trained or came with the base",
                remedy="give the adapter the tokenizer of its base, or train it again with its added tokens",
            )
        # As AutoPeftModel does; the adapter brings the rows that are new.
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    try:
        with warnings.catch_warnings():
            # peft only warns, and computes with random numbers instead.
            warnings.filterwarnings("error", message=".*Found missing adapter keys")
            # peft 0.21 reads a property that transformers 5.23 deprecates; to be removed when peft stops doing so.
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
            # What it means for merging is `merge`'s to say.
            warnings.filterwarnings("ignore", message="Model (has|with) `tie_word_embeddings=True`")
            return PeftModel.from_pretrained(model, folder, config=PeftConfig.from_pretrained(folder))
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, SafetensorError, UserWarning) as error:
        raise ModelError(
            given=f"the adapter {named.given} does not fit the base {named.base}: {' '.join(str(error).split())[:300]}",
            rule="an adapter is computed with the model that it was trained on",
            remedy="name the right base with --base, or save the adapter again with save_pretrained",
        ) from error


def _adapter_keys(folder: Path) -> list[str]:
    """The names of the adapter's tensors."""
    try:
        with safe_open(folder / _ADAPTER_WEIGHTS, framework="pt") as file:
            return list(file.keys())
    except (OSError, SafetensorError) as error:
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:12])
        raise ModelError(
            given=f"no usable adapter in {folder} (it holds: {found}); {error}",
            rule=f"an adapter's weights are in {_ADAPTER_WEIGHTS}; other forms may run code when they are read",
            remedy="save the adapter again with save_pretrained (peft writes safetensors)",
        ) from error
