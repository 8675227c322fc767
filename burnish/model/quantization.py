"""A base in 4 or 8 bits by bitsandbytes, under an adapter that trains (QLoRA, arXiv 2305.14314).

Stands beside `load`, which reads such a base. The linear layers between embedding and head are quantised, the head
stays as it is, since scoring reads it as one plain matrix. What is saved is an adapter, and beside it how its base was
quantised (`BASE`), in transformers' own words, so that whoever opens it computes what was trained.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, PretrainedConfig, PreTrainedModel
from transformers.utils import is_bitsandbytes_available

from burnish.errors import ModelError
from burnish.model.settings import Quantization

BASE = "base_quantization.json"
"""File of an adapter's folder: how its base was quantised in training, as a `BitsAndBytesConfig`."""


def configuration(asked: Quantization, dtype: torch.dtype) -> BitsAndBytesConfig:
    """As transformers takes it; products are computed in this type."""
    if asked.bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=asked.int8_threshold)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=asked.quant_type,
        bnb_4bit_use_double_quant=asked.double_quantization,
        bnb_4bit_compute_dtype=dtype,
    )


def require_installed() -> None:
    """Raises ModelError without bitsandbytes."""
    if not is_bitsandbytes_available():
        raise ModelError(
            given="adapter.kind: qlora",
            rule="4-bit and 8-bit weights come from bitsandbytes, which is not installed",
            remedy="pip install 'burnish[quant]', or adapter.kind=lora",
        )


def stored_in(config: PretrainedConfig) -> Mapping[str, Any] | None:
    """What a checkpoint's configuration says of its quantisation; None: its weights are plain numbers once loaded."""
    settings = config.to_dict().get("quantization_config")
    if isinstance(settings, BitsAndBytesConfig):
        return settings.to_dict()
    return None if settings and settings.get("quant_method") == "mxfp4" else settings  # `load_model` makes it plain


def check_stored(name: str, stored: Mapping[str, Any] | None, asked: Quantization | None) -> None:
    """Whether a checkpoint with (or without) quantised weights can be trained as asked.

    Raises:
        ModelError: it is quantised and no qlora was asked for, by another tool than bitsandbytes, or to other bits.
    """
    if stored is None:
        return
    method = str(stored.get("quant_method", "unknown"))
    if asked is None or method != "bitsandbytes":
        raise ModelError(
            given=f"{name} has quantised weights ({method})",
            rule="quantised weights do not train; beside those of bitsandbytes an adapter can (adapter.kind: qlora)",
            remedy="set adapter.kind=qlora" if method == "bitsandbytes" else "name the model that it was made from",
        )
    bits = 4 if stored.get("load_in_4bit") else 8
    if bits != asked.bits:
        raise ModelError(
            given=f"adapter.bits: {asked.bits}, and {name} is stored in {bits} bits",
            rule="a checkpoint that is quantised already stays as it is",
            remedy=f"set adapter.bits={bits}",
        )


def finalize(model: nn.Module) -> None:
    """Makes the layers compute the same in every mode, and silently; without quantised layers it does nothing.

    On processors with AVX512-BF16, bitsandbytes 0.50 packs the weights anew in the first forward of a layer in
    evaluation, for good: later forwards round to bfloat16 and have no gradient, later backwards read packed weights as
    unpacked. To be removed when its CPU layers train after an evaluation. Its 8-bit product says in every forward
    that it rounds inputs to float16.
    """
    layers = [layer for layer in model.modules() if _is_quantised(layer)]
    for layer in layers:
        vars(layer)["support_avx512bf16_for_cpu"] = False
    if layers:
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)


def is_quantized(model: nn.Module) -> bool:
    """Whether any layer has 4-bit or 8-bit weights."""
    return any(_is_quantised(layer) for layer in model.modules())


def quantization_of(model: PreTrainedModel) -> BitsAndBytesConfig | None:
    """How the model was quantised; None: it is not."""
    settings: BitsAndBytesConfig | None = model.config.quantization_config if is_quantized(model) else None
    return settings


def _is_quantised(layer: nn.Module) -> bool:
    return type(layer).__module__.startswith("bitsandbytes.")


def num_weights(parameter: Tensor) -> int:
    """How many numbers a parameter stands for: of 4-bit ones, two a byte."""
    state = vars(parameter).get("quant_state")
    return parameter.numel() if state is None else int(torch.Size(state.shape).numel())


def scales(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of all by which quantised bits become numbers; none of a plain model."""
    for name, layer in model.named_modules():
        if not _is_quantised(layer):
            continue
        weight = layer.get_parameter("weight")
        if (state := vars(weight).get("quant_state")) is not None:
            found = [value for value in state.as_dict(packed=True).values() if isinstance(value, Tensor)]
        else:  # the first forward moves them from the weight to the layer
            rows = vars(layer)["state"].SCB
            found = [vars(weight)["SCB"] if rows is None else rows]
        yield from ((f"{name}.{number}", tensor) for number, tensor in enumerate(found))


def write_base(folder: Path, settings: BitsAndBytesConfig) -> None:
    """Writes `BASE` into an adapter's folder."""
    (folder / BASE).write_text(json.dumps(settings.to_dict(), indent=2, default=str) + "\n", encoding="utf-8")


def read_base(folder: Path) -> BitsAndBytesConfig | None:
    """What `write_base` wrote; None: the adapter was trained beside plain weights.

    Raises:
        ModelError: it cannot be read.
    """
    path = folder / BASE
    if not path.is_file():
        return None
    try:
        settings: BitsAndBytesConfig = BitsAndBytesConfig.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            given=f"{path} cannot be read: {error}",
            rule=f"{BASE} says how the adapter's base was quantised in training, as transformers' BitsAndBytesConfig",
            remedy="put the file back as the run wrote it, or delete it to use the base unquantised",
        ) from error
    return settings
