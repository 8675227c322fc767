"""Linear layers on a CPU by oneDNN, where torch has it: the same products, often in less time.

The model's own code is used unchanged: `use_onednn` changes only the class of its linear layers. torch computes float32
products by a BLAS. oneDNN chooses kernels by the processor and can keep a matrix in the order in which they read it, so
it is faster above all for the few rows of a sampler (docs/devlog.md has figures). Products in bfloat16 are oneDNN's
already, and gain only by that order. Products for gradients of weights stay with the BLAS, since the two are equally
fast there.

oneDNN compiles a kernel for every shape, and keeps a thousand of them, nearly a megabyte each: hundreds of megabytes
where every microbatch has another number of tokens. So `use_onednn` limits the number by the process's environment
(unless a limit is set there; without effect if oneDNN was used before), and the few rows of a sampler are rounded up.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

KEPT_KERNELS = "32"
"""Number of compiled kernels to keep: those of a microbatch, forward and backward, and some more. Compiling one takes
about a millisecond."""
CAPACITIES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""Environment variables of the sizes of oneDNN's own cache and of torch's around it."""
SMALLEST = 2**16
"""Size of the smallest matrix, in numbers, for which oneDNN is used."""
PACKED_BYTES = 2**31
"""Largest memory for packed copies of matrices: enough for a model of 500 million parameters in float32, or twice as
many in bfloat16. Further matrices of a larger model get no copy."""
_PLAIN_TYPES = frozenset({Tensor, nn.Parameter})


@cache
def has_onednn() -> bool:
    """Whether this torch has oneDNN's products, on a processor of the type on which they were measured."""
    capable = torch.backends.cpu.get_cpu_capability().startswith("AVX")
    return capable and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def product(rows: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
    """Product [M, K] · [N, K]ᵀ + [N], without a graph; the matrix may come from `packed_matrix`."""
    if matrix.is_mkldnn:
        padded = nn.functional.pad(rows, (0, 0, 0, -len(rows) % (8 if len(rows) <= 64 else 64)))
        return torch.ops.mkldnn._linear_pointwise(padded, matrix, bias, "none", [], "")[: len(rows)]
    if _gains(rows, matrix):
        return torch.ops.mkldnn._linear_pointwise(rows, matrix, bias, "none", [], "")
    return nn.functional.linear(rows, matrix, bias)


def _gains(rows: Tensor, matrix: Tensor) -> bool:
    """Whether oneDNN multiplies these unpacked tensors faster."""
    return has_onednn() and _is_plain(rows, matrix) and matrix.numel() >= SMALLEST


def packed_matrix(matrix: Tensor) -> Tensor:
    """A copy of [N, K] in the order in which oneDNN reads it, for many calls of `product`; the matrix itself where
    there is no such order."""
    supported = _is_plain(matrix) or (_packs_bfloat16() and _is_plain(matrix, dtype=torch.bfloat16))
    if not has_onednn() or not supported or matrix.numel() < SMALLEST:
        return matrix
    return torch.ops.mkldnn._reorder_linear_weight(matrix.detach(), None)


def _packs_bfloat16() -> bool:
    """Whether oneDNN reorders bfloat16 matrices on this processor; with AVX2 alone torch refuses to."""
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def _is_plain(*tensors: Tensor, dtype: torch.dtype = torch.float32) -> bool:
    """Whether tensors are plain CPU tensors of this type; a subclass (sharded, quantized) has its own product."""
    return all(type(t) in _PLAIN_TYPES and t.device.type == "cpu" and t.dtype == dtype for t in tensors)


class _Product(torch.autograd.Function):
    """`product` of [M, K] with gradients."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows if matrix.requires_grad else None, matrix if rows.requires_grad else None)
        return product(rows, matrix, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        rows, matrix = ctx.saved_tensors
        of_rows = None if matrix is None else product(upstream, matrix.T)
        of_matrix = None if rows is None else upstream.T @ rows
        of_bias = upstream.sum(dim=0) if ctx.needs_input_grad[2] else None
        return of_rows, of_matrix, of_bias


class OneDnnLinear(nn.Linear):
    """A linear layer whose class was changed by `use_onednn`."""

    _packed: Tensor | None = None
    """The packed copy of the matrix inside `packed`; None: there is none."""

    def forward(self, input: Tensor) -> Tensor:
        rows = input.reshape(-1, self.in_features)  # a view made outside _Product, so that models may write into it
        if self._packed is not None and input.dtype == self._packed.dtype and not torch.is_grad_enabled():
            output = product(rows, self._packed, self.bias)
        elif _gains(rows, self.weight):
            output = _Product.apply(rows, self.weight, self.bias)
        else:
            return super().forward(input)
        return output.view(*input.shape[:-1], self.out_features)


def use_onednn(model: nn.Module) -> None:
    """Changes the class of the plain linear layers, on a machine where oneDNN is faster; call before adding
    adapters."""
    if not has_onednn():
        return
    for name in CAPACITIES:  # oneDNN reads it at its first product
        os.environ.setdefault(name, KEPT_KERNELS)
    for layer in model.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = OneDnnLinear


@contextmanager
def packed(model: nn.Module) -> Iterator[None]:
    """Context manager with packed copies of the matrices of linear layers, for many forwards without gradients and
    without a change of weights. Memory: that of the layers, up to `PACKED_BYTES`."""
    layers = [layer for layer in model.modules() if isinstance(layer, OneDnnLinear)]
    sizes = accumulate(layer.weight.numel() * layer.weight.element_size() for layer in layers)
    try:
        for layer, size in zip(layers, sizes, strict=True):
            matrix = packed_matrix(layer.weight) if size <= PACKED_BYTES else layer.weight
            layer._packed = matrix if matrix.is_mkldnn else None
        yield
    finally:
        for layer in layers:
            layer._packed = None
