"""PiSSA and OLoRA: adapters initialized from the weights, as differences from their initial factors.

Both papers split W into a part that trains and a rest that is frozen: W = (W - s·B₀A₀) + s·B₀A₀, and
train A and B from A₀ and B₀. Here W stays as it is, and the model computes

    W x + s·B A x - s·B₀ A₀ x,

the same function of A and B, with the same gradients. This holds without dropout, which is refused: each product would
drop other inputs, and the beginning would not be the base. Differences from the papers: nothing is rounded into a
residual, so the initial model is the base (up to the order of two additions) in every type; the disabled adapter is the
base, bit for bit; and the saved adapter is one plain LoRA of twice the rank, [A; A₀] and [B, -B₀], which loads anywhere
with the plain base. The cost is one more product of rank r in each layer. (The residuals of both papers also quantize
better; that is not used here, and both methods are refused on a quantized base.)
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import Linear
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

ADAPTER, INITIAL = "default", "initial"
"""peft's names of the trained adapter and of its initial factors."""
HALVES = "initial_adapter.json"
"""File of an adapter's folder that marks the second half of each rank as the initial factors."""
_WEIGHTS = "adapter_model.safetensors"


def principal(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """PiSSA (arXiv 2404.02948, eq. 2 and 3): A₀ = √S V'ᵀ and B₀ = U √S of the largest singular values.

    Args:
        weight: [out, in], float32 or float64.
        rank: at most min(out, in).

    Returns:
        [rank, in] and [out, rank], whose product is the best approximation of that rank.
    """
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    root = values[:rank].sqrt()
    return root[:, None] * right[:rank], left[:, :rank] * root


def orthonormal(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """OLoRA (arXiv 2406.01775, section 3): the first rows of R and columns of Q, of W = Q R; B₀ has orthonormal
    columns.

    Args and returns as of `principal`; the product is W in its first `rank` columns.
    """
    q, r = torch.linalg.qr(weight)
    return r[:rank], q[:, :rank]


_FACTORS: Mapping[str, Callable[[Tensor, int], tuple[Tensor, Tensor]]] = {"pissa": principal, "olora": orthonormal}


def initialize_from_weights(model: PeftModel, init: str) -> None:
    """Initializes A and B of every layer from its weights, and subtracts their initial product.

    As in peft, PiSSA's product s·B₀A₀ is the approximation of W itself, so its factors are divided by √s each; OLoRA's
    factors are taken as they are.
    """
    for _, layer in _named_layers(model):
        weight = layer.get_base_layer().weight.detach()
        wide = weight.to(torch.float64 if weight.dtype == torch.float64 else torch.float32)
        a, b = _FACTORS[init](wide, layer.r[ADAPTER])
        if init == "pissa":
            root = math.sqrt(layer.scaling[ADAPTER])
            a, b = a / root, b / root
        _set(layer.lora_A[ADAPTER].weight, a)
        _set(layer.lora_B[ADAPTER].weight, b)
    subtract_initial(model)


def subtract_initial(model: PeftModel, initial_factors: Mapping[str, Tensor] | None = None) -> None:
    """Makes each layer subtract the product of its initial factors.

    Args:
        model: with one LoRA adapter.
        initial_factors: name of a layer's factor, as in the model → tensor; None: the current A and B.
    """
    config = model.peft_config[ADAPTER]
    initial_config = replace(config, modules_to_save=None, trainable_token_indices=None, init_lora_weights=True)
    model.add_adapter(INITIAL, initial_config)
    for name, layer in _named_layers(model):
        for half, factors in (("lora_A", layer.lora_A), ("lora_B", layer.lora_B)):
            trained = factors[ADAPTER].weight
            initial = (
                trained.detach().clone() if initial_factors is None else initial_factors[f"{name}.{half}"].to(trained)
            )
            if half == "lora_B" and initial_factors is None:
                initial = -initial
            _freeze(factors[INITIAL], initial)
    model.base_model.set_adapter([ADAPTER, INITIAL])


def has_beginning(model: nn.Module) -> bool:
    """Whether the model's adapter subtracts its initial factors."""
    return isinstance(model, PeftModel) and INITIAL in model.peft_config


def doubled(name: str, tensor: Tensor, model: PeftModel) -> Tensor:
    """A trained tensor as it is saved: a factor is joined with its initial factor, other tensors are unchanged."""
    layer_name, _, half = name.removesuffix(f".{ADAPTER}.weight").rpartition(".")
    if half not in ("lora_A", "lora_B"):
        return tensor
    initial = model.get_submodule(layer_name).get_submodule(f"{half}.{INITIAL}").weight
    return torch.cat([tensor, initial], dim=0 if half == "lora_A" else 1)


def write_doubled(model: PeftModel, folder: Path) -> None:
    """Rewrites the adapter that peft wrote into the folder as one of twice the rank, with the initial factors in the
    second half."""
    state = load_file(folder / _WEIGHTS)
    for name, layer in _named_layers(model):
        for half, dim in (("lora_A", 0), ("lora_B", 1)):
            factors = layer.get_submodule(half)
            weights = [factors.get_submodule(adapter).weight for adapter in (ADAPTER, INITIAL)]
            state[f"{name}.{half}.weight"] = torch.cat([w.detach().cpu() for w in weights], dim=dim).contiguous()
    save_file(state, folder / _WEIGHTS, metadata={"format": "pt"})
    _double_ranks(folder / "adapter_config.json")
    init = str(model.peft_config[ADAPTER].init_lora_weights)
    (folder / HALVES).write_text(json.dumps({"init": init}) + "\n", encoding="utf-8")


def _double_ranks(path: Path) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    growth = math.sqrt(2) if config["use_rslora"] else 2  # alpha grows with the rank so that the scale stays
    config["r"] *= 2
    config["lora_alpha"] *= growth
    config["rank_pattern"] = {name: 2 * rank for name, rank in config["rank_pattern"].items()}
    config["alpha_pattern"] = {name: growth * alpha for name, alpha in config["alpha_pattern"].items()}
    config["init_lora_weights"] = True
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def halves(folder: Path) -> str | None:
    """The init of a folder's adapter whose second half has the initial factors; None: a plain adapter."""
    path = folder / HALVES
    return str(json.loads(path.read_text(encoding="utf-8"))["init"]) if path.is_file() else None


def undoubled(config: LoraConfig, init: str) -> LoraConfig:
    """The configuration in training, from that of the saved adapter of twice the rank."""
    growth = math.sqrt(2) if config.use_rslora else 2
    return replace(
        config,
        r=config.r // 2,
        lora_alpha=_divided(config.lora_alpha, growth),
        rank_pattern={name: rank // 2 for name, rank in config.rank_pattern.items()},
        alpha_pattern={name: _divided(alpha, growth) for name, alpha in config.alpha_pattern.items()},
        init_lora_weights=init,
    )


def _divided(alpha: float, growth: float) -> float:
    """The alpha from which `_double_ranks` made this one: the shortest number whose product is equal, since a product
    with √2 and a division by it round differently."""
    quotient = alpha / growth
    shortest = (float(f"{quotient:.{digits}g}") for digits in (15, 16))
    return next((number for number in shortest if number * growth == alpha), quotient)


def split_halves(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Trained factors, by the names of the file, and initial factors, by the names that `subtract_initial` takes."""
    trained, initial_factors = dict(state), {}
    for name, tensor in state.items():
        for half, dim in (("lora_A", 0), ("lora_B", 1)):
            if name.endswith(f".{half}.weight"):
                first, second = tensor.chunk(2, dim=dim)
                trained[name] = first.contiguous()
                initial_factors[name.removesuffix(".weight")] = second
    return trained, initial_factors


def _named_layers(model: PeftModel) -> Iterator[tuple[str, Linear]]:
    return ((name, layer) for name, layer in model.named_modules() if isinstance(layer, Linear))


def _set(parameter: nn.Parameter, value: Tensor) -> None:
    parameter.data = value.to(parameter.dtype).contiguous()


def _freeze(factor: nn.Linear, value: Tensor) -> None:
    """Stores a factor as a buffer, since peft makes parameters trainable when adapters are switched off and on."""
    del factor.weight
    factor.register_buffer("weight", value)
