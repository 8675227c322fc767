"""Loading a model by hub name or folder into a `Policy`, and proving that it computes packed groups rightly.

Stands before training. Weights load in the checkpoint's own type unless another is asked for; nothing is run that came
with the checkpoint (safetensors only, remote code off).
"""

from __future__ import annotations

import logging
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

from burnish.errors import ModelError
from burnish.model.adapters import AdapterSettings, add_adapter
from burnish.model.attention import install
from burnish.model.policy import Policy
from burnish.model.probe import Verdict, probe
from burnish.watch import quiet_transformers

log = logging.getLogger(__name__)

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
        name: a hub name, or a folder as `save_pretrained` writes it.
        adapter: the adapter to train; None: all weights.
        dtype: "auto" is the checkpoint's own type.
        device: None: CUDA if there is one, else CPU.
        gradient_checkpointing: keep only layer inputs, and compute the layers again in the backward.

    Raises:
        ModelError: no such model, no weights or tokenizer in it, weights missing from it, or an architecture whose
            packed forward differs from its plain one.
    """
    tokenizer = load_tokenizer(name)
    model = load_model(name, dtype).to(device or default_device())
    share = _installed(model)
    if gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    trained = model if adapter is None else add_adapter(model, adapter)
    trained.train()
    return Policy(trained, tokenizer, share)


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Raises ModelError if there is none, or none that transformers can read."""
    _require_place(name)
    with quiet_transformers():
        try:
            return AutoTokenizer.from_pretrained(name)
        except (OSError, ValueError, TypeError, ImportError) as error:
            raise _unloadable(name, "tokenizer", "tokenizer.json and tokenizer_config.json", error) from error


def load_config(name: str) -> PretrainedConfig:
    """Raises ModelError if there is none, or it is of an unknown architecture."""
    _require_place(name)
    with quiet_transformers():
        try:
            return AutoConfig.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise _unloadable(name, "configuration", "config.json", error) from error


def load_model(name: str, dtype: DtypeName = "auto") -> PreTrainedModel:
    """Raises ModelError if there are no weights, or weights that the architecture needs are not among them."""
    config = without_dropout(load_config(name))
    # An adapter remembers this name as its base: as an absolute path it is found from any folder.
    name = str(Path(name).resolve()) if Path(name).is_dir() else name
    wanted = "auto" if dtype == "auto" else getattr(torch, dtype)
    with quiet_transformers():
        try:
            model, info = AutoModelForCausalLM.from_pretrained(
                name, config=config, dtype=wanted, use_safetensors=True, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise _unloadable(name, "model", "safetensors weights (model.safetensors)", error) from error
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            given=f"the weights of {name} lack {len(missing)} tensors, such as {missing[0]}",
            rule="every parameter of the architecture is in the checkpoint; else it would start at random, unnoticed",
            remedy="save the model again with save_pretrained, or name another model",
        )
    return model


def without_dropout(config: PretrainedConfig) -> PretrainedConfig:
    """The configuration with every dropout at 0: with dropout, a step depends on how it is split."""
    text = config.get_text_config(decoder=True)
    for name, value in text.to_dict().items():
        if name.endswith(("dropout", "_pdrop", "dropout_prob")) and isinstance(value, float) and value > 0:
            log.warning("%s is %s in the model's configuration, and 0 here", name, value)
            setattr(text, name, 0.0)
    return config


def max_positions(config: PretrainedConfig) -> int:
    """The longest sequence, in tokens, that packing computes as the plain model does.

    Dynamic and long rotary scaling change *all* positions' frequencies once the longest sequence of the batch passes
    the original length, so below that length a packed row is in one regime.
    """
    text = config.get_text_config(decoder=True)
    limits = [int(text.max_position_embeddings)]
    parameters = text.to_dict().get("rope_parameters") or {}
    for rope in [parameters, *(value for value in parameters.values() if isinstance(value, dict))]:
        if rope.get("rope_type") in {"dynamic", "longrope"}:
            limits.append(int(rope.get("original_max_position_embeddings") or limits[0]))
    return min(limits)


def _installed(model: PreTrainedModel) -> bool:
    """Installs packed attention, tries it, and says whether prompts can be shared."""
    install(model)
    verdict = probe(model)
    if verdict is Verdict.REFUSED:
        raise ModelError(
            given=f"{type(model).__name__}: its packed forward differs from its plain one",
            rule="packed sequences must not see each other",
            remedy="use a decoder whose attention goes through transformers' AttentionInterface, such as Llama or Qwen",
        )
    if verdict is Verdict.EXPANDED:
        log.warning("%s cannot share prompts between responses: they run expanded", type(model).__name__)
    return verdict is Verdict.SHARED


def _require_place(name: str) -> None:
    """A name that can only be a folder must be one."""
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1 or Path(name).exists()
    if looks_local and not Path(name).expanduser().is_dir():
        raise ModelError(
            given=f"model: {name}",
            rule="a model is a hub name (owner/name) or an existing folder",
            remedy=f"check the path; the current folder is {Path.cwd()}",
        )


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
