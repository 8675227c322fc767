"""Products with the head's matrix: exact forwards, backwards in the model's type, sums in the accumulation type.

Used by `scoring`. For float32 and float64 models these are the plain products. For narrower ones (bfloat16):

- Logits are float32 sums of exact products of the model's numbers. CUDA multiplies 16-bit inputs into float32 outputs;
  elsewhere the matrix is converted to float32 once for all chunks.
- The gradient of the logits is rounded to the model's type before it is multiplied, as it is in a model whose own head
  computes in that type; narrow products are two to three times as fast on a CPU that has them, more on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from burnish.model.head import accumulation_dtype
from burnish.model.linear import packed_matrix, product

ROWS_TOGETHER = 1024
"""About this many 16-bit gradients of tokens are gathered for one product, since adding its [V, H] to the sum costs as
much as multiplying a hundred of them."""


@dataclass(frozen=True, eq=False, slots=True)
class HeadMatrix:
    """Matrix [V, H] of the head, prepared for products with chunks."""

    given: Tensor
    """In the model's type."""
    forward: Tensor
    """The matrix for logits: `given`, or its copy in the accumulation type."""

    @classmethod
    def of(cls, weight: Tensor, source: torch.dtype) -> Self:
        """The matrix for hidden states of type `source`."""
        widens = weight.device.type == "cuda" and weight.dtype == source
        return cls(weight, weight if widens else weight.to(accumulation_dtype(weight.dtype)))

    def packed(self) -> Self:
        """A copy in oneDNN's order, faster for many products without a change of weights."""
        return replace(self, forward=packed_matrix(self.forward))

    @property
    def dtype(self) -> torch.dtype:
        """Type of logits and sums: the accumulation type."""
        return accumulation_dtype(self.given.dtype)

    def logits(self, source: Tensor) -> Tensor:
        """Logits [m, V] of hidden states [m, H], in the accumulation type."""
        if self.forward.dtype == self.dtype:
            return product(source.to(self.dtype), self.forward)
        return torch.mm(source, self.forward.T, out_dtype=self.dtype)

    def back(self, gradient: Tensor, out: Tensor) -> Tensor:
        """Gradient of hidden states: [m, V] (either type) · [V, H] into `out`, [m, H] in the accumulation type."""
        if self.given.dtype == out.dtype:
            return out.copy_(product(gradient, self.given.T))
        return out.copy_(gradient.to(self.given.dtype) @ self.given)


class OuterSum:
    """Sum Σ gradientᵀ · source over chunks, [V, H], in the accumulation type; 16-bit gradients wait in a buffer."""

    def __init__(self, matrix: HeadMatrix) -> None:
        self._sum = torch.zeros_like(matrix.given, dtype=matrix.dtype)
        self._buffer = matrix.given.new_empty(0)
        self._sources: list[Tensor] = []

    def add(self, gradient: Tensor, source: Tensor) -> Tensor:
        """Adds a chunk's gradient [m, V], in the accumulation type, and hidden states [m, H].

        Returns:
            The gradient in the type in which it is multiplied, valid until the next call.
        """
        if self._buffer.dtype == self._sum.dtype:
            self._sum.addmm_(gradient.T, source.to(gradient.dtype))
            return gradient
        waiting = sum(map(len, self._sources))
        if waiting + len(gradient) > len(self._buffer):
            self._multiply()
            waiting = 0
        if len(gradient) > len(self._buffer):
            rows = len(gradient) * max(1, ROWS_TOGETHER // len(gradient))
            self._buffer = self._buffer.new_empty((rows, gradient.shape[1]))
        self._sources.append(source.to(self._buffer.dtype))
        return self._buffer[waiting : waiting + len(gradient)].copy_(gradient)

    def total(self) -> Tensor:
        """The sum, after the last chunk."""
        self._multiply()
        return self._sum

    def _multiply(self) -> None:
        if self._sources:
            sources = torch.cat(self._sources)
            self._sum += self._buffer[: len(sources)].T @ sources
            self._sources.clear()
