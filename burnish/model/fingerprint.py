"""Fingerprint of a model's weights: equal bits, shapes and configuration give the same text."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from burnish.model.policy import Model
from burnish.model.quantization import scales
from burnish.parallel.part import own_tensor

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Integer type by bytes per number."""
_BLOCK = 2**22
"""Numbers summed at once; limits the memory."""


def frozen_fingerprint(policy: Model) -> str:
    """Fingerprint of the frozen weights and the configuration: names, shapes, types, bits."""
    return _fingerprint(policy, trained=False)


def whole_fingerprint(policy: Model) -> str:
    """Fingerprint of all current weights, trained ones included."""
    return _fingerprint(policy, trained=True)


def _fingerprint(policy: Model, *, trained: bool) -> str:
    digest = hashlib.sha256(policy.causal_lm.config.to_json_string().encode())
    for name, parameter in policy.named_parameters():
        if trained or not parameter.requires_grad:
            whole = policy.placement.part(name).whole(own_tensor(parameter))
            digest.update(f"{name} {tuple(whole.shape)} {whole.dtype} {_weighted_bits(whole)}".encode())
    for name, tensor in (*policy.model.named_buffers(), *scales(policy.model)):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} {_weighted_bits(tensor)}".encode())
    return digest.hexdigest()


def _weighted_bits(parameter: Tensor) -> list[int]:
    """Per block, the sum of the bits as integers times their places, which depends on values and order."""
    bits = parameter.detach().reshape(-1).view(_INTEGERS[parameter.itemsize])
    places = torch.arange(1, _BLOCK + 1, device=bits.device)
    return [int((block.to(torch.int64) * places[: len(block)]).sum()) for block in bits.split(_BLOCK)]
