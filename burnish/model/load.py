"""Loading a model by hub name or folder into a `Policy`, and proving that it computes packed groups rightly.

Stands before training. Weights load in the checkpoint's own type unless another is asked for; nothing is run that came
with the checkpoint (safetensors only, remote code off).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from burnish.builtin import PREFIX, model_folder
from burnish.errors import ModelError
from burnish.model.adapters import AdapterSettings, add_adapter
from burnish.model.attention import install
from burnish.model.export import settle_generation
from burnish.model.policy import Policy
from burnish.model.probe import probe
from burnish.watch import quiet_transformers

DtypeName = Literal["auto", "float32", "bfloat16", "float64"]


def load_policy(
    name: str,
    *,
    adapter: AdapterSettings | None = None,
    dtype: DtypeName = "auto",
    device: torch.device | None = None,
    gradient_checkpointing: bool = False,
) -> Policy:
    """Loads a causal language model for training.

    Args:
        name: a hub name, a folder as `save_pretrained` writes it, or ``builtin:tiny``.
        adapter: the adapter to train; None: all weights.
        dtype: "auto" is the checkpoint's own type (float32 for a float16 one, whose gradients would underflow).
        device: None: CUDA if there is one, else CPU.
        gradient_checkpointing: keep only layer inputs, and compute the layers again in the backward.

    Raises:
        ModelError: no such model, no weights or tokenizer in it, weights missing from it, or an architecture whose
            packed forward differs from its plain one.
    """
    tokenizer = load_tokenizer(name)
    model, notes = load_model(name, dtype)
    model = model.to(device or default_device())
    install(model)
    share = probe(model)
    if not share:
        notes.append(f"{type(model).__name__} cannot share a prompt between responses: they run expanded")
    if gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    trained = model if adapter is None else add_adapter(model, adapter)
    trained.train()
    return Policy(trained, tokenizer, share, notes=tuple(notes))


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Raises ModelError if there is none, or none that transformers can read."""
    place = _find(name)
    with quiet_transformers():
        try:
            return AutoTokenizer.from_pretrained(place)
        except (OSError, ValueError, TypeError, ImportError) as error:
            raise _unloadable(place, "tokenizer", "tokenizer.json and tokenizer_config.json", error) from error


def load_config(name: str) -> PretrainedConfig:
    """Raises ModelError if there is none, or it is of an unknown architecture."""
    place = _find(name)
    with quiet_transformers():
        try:
            return AutoConfig.from_pretrained(place)
        except (OSError, ValueError) as error:
            raise _unloadable(place, "configuration", "config.json", error) from error


def load_model(name: str, dtype: DtypeName = "auto") -> tuple[PreTrainedModel, list[str]]:
    """The model, and what was changed about it, in lines for people.

    Raises:
        ModelError: there are no weights, or weights that the architecture needs are not among them.
    """
    config = load_config(name)
    notes = [*_dropout_off(config)]
    place = _find(name)
    wanted = "auto" if dtype == "auto" else getattr(torch, dtype)
    with quiet_transformers():
        try:
            model, info = AutoModelForCausalLM.from_pretrained(
                place, config=config, dtype=wanted, use_safetensors=True, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise _unloadable(place, "model", "safetensors weights (model.safetensors)", error) from error
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            given=f"the weights of {name} lack {len(missing)} tensors, such as {missing[0]}",
            rule="every parameter of the architecture is in the checkpoint; else it would start at random, unnoticed",
            remedy="save the model again with save_pretrained, or name another model",
        )
    if model.dtype == torch.float16:
        notes.append("the checkpoint is float16, in which small gradients vanish: it is trained and saved as float32")
        model = model.float()
    notes += settle_generation(model)
    return model, notes


def _dropout_off(config: PretrainedConfig) -> Iterator[str]:
    """Sets every dropout of the configuration to 0: with dropout, a step depends on how it is split."""
    text = config.get_text_config(decoder=True)
    for name, value in text.to_dict().items():
        if name.endswith(("dropout", "_pdrop", "dropout_prob")) and isinstance(value, float) and value > 0:
            setattr(text, name, 0.0)
            yield f"{name} is {value} in the model's configuration; it is 0 here, and in what is saved"


def max_positions(config: PretrainedConfig) -> int:
    """The longest sequence, in tokens, that packing computes as the plain model does.

    Dynamic and long rotary scaling change *all* positions' frequencies once the longest sequence of the batch passes
    the original length, so below that length a packed row is in one regime.

    Raises:
        ModelError: the configuration does not say how long sequences may be.
    """
    text = config.get_text_config(decoder=True).to_dict()
    if not isinstance(positions := text.get("max_position_embeddings"), int):
        raise ModelError(
            given=f"the configuration of a {config.model_type} model has no max_position_embeddings",
            rule="the model says how long its sequences may be",
            remedy="use a decoder with rotary or learned positions, such as Llama or Qwen",
        )
    limits = [positions]
    parameters = text.get("rope_parameters") or {}
    for rope in [parameters, *(value for value in parameters.values() if isinstance(value, dict))]:
        if rope.get("rope_type") in {"dynamic", "longrope"}:
            limits.append(int(rope.get("original_max_position_embeddings") or positions))
    return min(limits)


def _find(name: str) -> str:
    """An existing folder as an absolute path (which an adapter remembers as its base), a hub name as it is.

    Raises:
        ModelError: the name can only be a folder and there is none, or the folder holds an adapter alone.
    """
    if name.startswith(PREFIX):
        return str(model_folder(name))
    folder = Path(name).expanduser()
    if folder.is_dir():
        if (folder / "adapter_config.json").exists() and not (folder / "config.json").exists():
            raise ModelError(
                given=f"model: {name} holds an adapter, not a model",
                rule="a stage begins with a whole model",
                remedy="merge the adapter into its base first (peft: merge_and_unload, save_pretrained)",
            )
        return str(folder.resolve())
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or folder.exists():
        raise ModelError(
            given=f"model: {name}",
            rule="a model is a hub name (owner/name) or an existing folder",
            remedy=f"check the path; the current folder is {Path.cwd()}",
        )
    return name


def _unloadable(name: str, what: str, files: str, error: Exception) -> ModelError:
    reason = " ".join(str(error).split())[:300]
    if Path(name).is_dir():
        found = ", ".join(sorted(p.name for p in Path(name).iterdir())[:12]) or "nothing"
        return ModelError(
            given=f"no usable {what} in {name} (it holds: {found}); {reason}",
            rule=f"a model folder holds {files}",
            remedy="save the model there with save_pretrained, weights and tokenizer both",
        )
    return ModelError(
        given=f"the {what} of {name} could not be loaded: {reason}",
        rule="a model is a hub name that can be reached, or a folder on this machine",
        remedy="check the spelling and the network, or download the model and give its folder",
    )
