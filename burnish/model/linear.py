"""Linear layers on a CPU, multiplied by oneDNN where torch has it: the same sums, often in less time.

Under the model's own code, which is used as it is: `use_onednn` changes the class of its linear layers and nothing
else. torch gives float32 products to a BLAS. oneDNN chooses kernels by the processor, can keep a matrix in the order in
which they read it, and so is faster above all for the few rows of a sampler (docs/devlog.md has figures). Products in
bfloat16 are oneDNN's already, and gain by that order alone. Those that give gradients of weights stay where they are,
since there the two are equally fast.

oneDNN compiles a kernel for every shape that it meets, and keeps a thousand of them, nearly a megabyte each: hundreds
of megabytes where every microbatch has another number of tokens. So `use_onednn` tells it to keep few, by the process's
environment (unless that says how many; and in vain if something has used it before), and the few rows of a sampler are
rounded up.
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
"""Those of a microbatch, forwards and backwards, and some more; each takes about a millisecond to compile."""
CAPACITIES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""Names in the environment: oneDNN's own cache, and that of torch around it."""
SMALLEST = 2**16
"""Numbers of the smallest matrix for which this is worth while."""
PACKED_BYTES = 2**31
"""Most memory for matrices that are kept a second time: those of a model of 500 million parameters in float32, of
twice as many in bfloat16. Those of a larger model that come later stay as they are."""
_OURS = frozenset({Tensor, nn.Parameter})


@cache
def has_onednn() -> bool:
    """Whether this torch has oneDNN's products, on the kind of processor where they were measured."""
    capable = torch.backends.cpu.get_cpu_capability().startswith("AVX")
    return capable and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def product(rows: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
    """[M, K] · [N, K]ᵀ + [N], without a graph; the matrix may come from `packed_matrix`."""
    if matrix.is_mkldnn:
        more = nn.functional.pad(rows, (0, 0, 0, -len(rows) % (8 if len(rows) <= 64 else 64)))
        return torch.ops.mkldnn._linear_pointwise(more, matrix, bias, "none", [], "")[: len(rows)]
    if _gains(rows, matrix):
        return torch.ops.mkldnn._linear_pointwise(rows, matrix, bias, "none", [], "")
    return nn.functional.linear(rows, matrix, bias)


def _gains(rows: Tensor, matrix: Tensor) -> bool:
    """Whether oneDNN is to multiply them as they are."""
    return has_onednn() and _is_plain(rows, matrix) and matrix.numel() >= SMALLEST


def packed_matrix(matrix: Tensor) -> Tensor:
    """A copy of [N, K] in the order in which oneDNN reads it, for many calls of `product`; itself where there is no
    such order."""
    known = _is_plain(matrix) or _is_plain(matrix, dtype=torch.bfloat16)
    if not has_onednn() or not known or matrix.numel() < SMALLEST:
        return matrix
    return torch.ops.mkldnn._reorder_linear_weight(matrix.detach(), None)


def _is_plain(*tensors: Tensor, dtype: torch.dtype = torch.float32) -> bool:
    """Numbers of this type in this machine's memory; no subclass (sharded, quantised), which brings its own product."""
    return all(type(each) in _OURS and each.device.type == "cpu" and each.dtype == dtype for each in tensors)


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
    """What `packed` keeps for a while."""

    def forward(self, input: Tensor) -> Tensor:
        rows = input.reshape(-1, self.in_features)  # views are made out here, where models may write into them
        if self._packed is not None and input.dtype == self._packed.dtype and not torch.is_grad_enabled():
            found = product(rows, self._packed, self.bias)
        elif _gains(rows, self.weight):
            found = _Product.apply(rows, self.weight, self.bias)
        else:
            return super().forward(input)
        return found.view(*input.shape[:-1], self.out_features)


def use_onednn(model: nn.Module) -> None:
    """Changes the class of the plain linear layers, on a machine where it helps; adapters come around them later."""
    if not has_onednn():
        return
    for name in CAPACITIES:  # read by the first product
        os.environ.setdefault(name, KEPT_KERNELS)
    for layer in model.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = OneDnnLinear


@contextmanager
def packed(model: nn.Module) -> Iterator[None]:
    """Inside, linear layers keep their matrices a second time, as oneDNN reads them: for many forwards without
    gradients and without a change of weights. It costs the memory of the layers, up to `PACKED_BYTES`."""
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
