"""Quantized base in 4 or 8 bits by bitsandbytes, under a trained adapter (QLoRA, arXiv 2305.14314).

`load` reads such a base. The linear layers between embedding and head are quantized; the head is not, since scoring
reads it as one plain matrix. The saved adapter has a file with the quantization of its base (`BASE`), in transformers'
own format, so that opening it gives the model that was trained.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, PretrainedConfig, PreTrainedModel
from transformers.utils import is_bitsandbytes_available

from burnish.errors import ModelError
from burnish.model.settings import Quantization

BASE = "base_quantization.json"
"""File of an adapter's folder: the `BitsAndBytesConfig` of its base in training."""


def bitsandbytes_config(settings: Quantization, dtype: torch.dtype) -> BitsAndBytesConfig:
    """transformers' configuration; products are computed in `dtype`."""
    if settings.bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=settings.int8_threshold)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=settings.quant_type,
        bnb_4bit_use_double_quant=settings.double_quantization,
        bnb_4bit_compute_dtype=dtype,
    )


def require_bitsandbytes() -> None:
    """Raises ModelError if bitsandbytes is not installed."""
    if not is_bitsandbytes_available():
        raise ModelError(
            given="adapter.kind: qlora",
            rule="4-bit and 8-bit weights come from bitsandbytes, which is not installed",
            remedy="pip install 'burnish[quant]', or adapter.kind=lora",
        )


def stored_quantization(config: PretrainedConfig) -> Mapping[str, Any] | None:
    """The quantization in a checkpoint's configuration; None: its weights are unquantized once loaded."""
    settings = config.to_dict().get("quantization_config")
    if isinstance(settings, BitsAndBytesConfig):
        return settings.to_dict()
    return None if settings and settings.get("quant_method") == "mxfp4" else settings  # `load_model` dequantizes it


def check_stored_quantization(name: str, stored: Mapping[str, Any] | None, settings: Quantization | None) -> None:
    """Checks that a checkpoint with (or without) quantized weights can be trained with the settings.

    Raises:
        ModelError: it is quantized and the settings have no qlora, by another tool than bitsandbytes, or to other bits.
    """
    if stored is None:
        return
    method = str(stored.get("quant_method", "unknown"))
    if settings is None or method != "bitsandbytes":
        raise ModelError(
            given=f"{name} has quantized weights ({method})",
            rule="quantized weights do not train; an adapter over those of bitsandbytes does (adapter.kind: qlora)",
            remedy="set adapter.kind=qlora" if method == "bitsandbytes" else "name the model that it was made from",
        )
    bits = 4 if stored.get("load_in_4bit") else 8
    if bits != settings.bits:
        raise ModelError(
            given=f"adapter.bits: {settings.bits}, and {name} is stored in {bits} bits",
            rule="a checkpoint that is quantized already is not quantized again",
            remedy=f"set adapter.bits={bits}",
        )


def make_trainable(model: nn.Module) -> None:
    """Makes quantized layers compute the same in training and evaluation, without log lines; others are unchanged.

    On processors with AVX512-BF16, bitsandbytes 0.50 repacks the weights in the first forward of a layer in
    evaluation, permanently: later forwards round to bfloat16 and have no gradient, later backwards read packed weights
    as unpacked. Its 8-bit layers on a CPU multiply by the dequantized weights in training, and in evaluation round
    their inputs to 8 bits as well, which changes log-probabilities by up to 0.1 nats. Here they compute as in training
    in both. To be removed when its CPU layers do so themselves, and train after an evaluation. Its 8-bit product logs
    in every forward that it rounds inputs to float16.
    """
    layers = [layer for layer in model.modules() if _is_quantized_layer(layer)]
    for layer in layers:
        vars(layer)["support_avx512bf16_for_cpu"] = False
        weight = layer.get_parameter("weight")
        if weight.dtype == torch.int8 and weight.device.type in ("cpu", "xpu"):
            vars(layer)["forward"] = partial(_forward_as_in_training, layer)
    if layers:
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)


def _forward_as_in_training(layer: nn.Module, inputs: Tensor) -> Tensor:
    """The forward of a layer whose class looks at its mode."""
    mode = layer.training
    layer.training = True
    try:
        output: Tensor = type(layer).forward(layer, inputs)
    finally:
        layer.training = mode
    return output


def is_quantized(model: nn.Module) -> bool:
    """Whether any layer has 4-bit or 8-bit weights."""
    return any(_is_quantized_layer(layer) for layer in model.modules())


def quantization_of(model: PreTrainedModel) -> BitsAndBytesConfig | None:
    """The quantization of a model; None: it has none."""
    settings: BitsAndBytesConfig | None = model.config.quantization_config if is_quantized(model) else None
    return settings


def _is_quantized_layer(layer: nn.Module) -> bool:
    return type(layer).__module__.startswith("bitsandbytes.")


def num_weights(parameter: Tensor) -> int:
    """Weights in a parameter; 4-bit ones have two per byte."""
    state = vars(parameter).get("quant_state")
    return parameter.numel() if state is None else int(torch.Size(state.shape).numel())


def scales(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of all scales of quantized layers; none for an unquantized model."""
    for name, layer in model.named_modules():
        if not _is_quantized_layer(layer):
            continue
        weight = layer.get_parameter("weight")
        if (state := vars(weight).get("quant_state")) is not None:
            tensors = [value for value in state.as_dict(packed=True).values() if isinstance(value, Tensor)]
        else:  # the first forward moves them from the weight to the layer
            scale = vars(layer)["state"].SCB
            tensors = [vars(weight)["SCB"] if scale is None else scale]
        yield from ((f"{name}.{number}", tensor) for number, tensor in enumerate(tensors))


def write_base(folder: Path, settings: BitsAndBytesConfig) -> None:
    """Writes `BASE` into an adapter's folder."""
    (folder / BASE).write_text(json.dumps(settings.to_dict(), indent=2, default=str) + "\n", encoding="utf-8")


def read_base(folder: Path) -> BitsAndBytesConfig | None:
    """Reads `BASE` from an adapter's folder; None: the adapter was trained on unquantized weights.

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
            rule=f"{BASE} is the quantization of the adapter's base in training, as transformers' BitsAndBytesConfig",
            remedy="restore the file as the run wrote it, or delete it to use the base unquantized",
        ) from error
    return settings
