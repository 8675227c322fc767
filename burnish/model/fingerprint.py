"""Which weights a model has, as a short text: equal bits, shapes and configuration give the same."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from burnish.model.policy import Model
from burnish.model.quantization import scales

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""The integers of as many bytes as a number has."""
_BLOCK = 2**22
"""Numbers weighed at once; bounds the memory."""


def frozen_fingerprint(policy: Model) -> str:
    """Identifies the weights that do not train, and what is computed with them: configuration, names, shapes, bits."""
    return _fingerprint(policy, trained=False)


def whole_fingerprint(policy: Model) -> str:
    """Identifies all weights as they are now, those that train too."""
    return _fingerprint(policy, trained=True)


def _fingerprint(policy: Model, *, trained: bool) -> str:
    digest = hashlib.sha256(policy.causal_lm.config.to_json_string().encode())
    for name, parameter in policy.model.named_parameters():
        if trained or not parameter.requires_grad:
            digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype} {_weighed_bits(parameter)}".encode())
    for name, tensor in (*policy.model.named_buffers(), *scales(policy.model)):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} {_weighed_bits(tensor)}".encode())
    return digest.hexdigest()


def _weighed_bits(parameter: Tensor) -> list[int]:
    """Per block, the sum of the bits as integers, each times its place: other values or another order give another."""
    bits = parameter.detach().reshape(-1).view(_INTEGERS[parameter.itemsize])
    places = torch.arange(1, _BLOCK + 1, device=bits.device)
    return [int((block.to(torch.int64) * places[: len(block)]).sum()) for block in bits.split(_BLOCK)]
