"""Logits of a chunk of hidden states: product with the head's matrix, bias, scale, soft-cap, temperature.

Used by `scoring` for the model in training, and by `divergence` and `top_k` for a teacher.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from burnish.model.head import Head
from burnish.model.products import HeadMatrix
from burnish.parallel.columns import Columns


@dataclass(frozen=True, slots=True)
class LogitSettings:
    """Scale, soft-cap and temperature of logits, and the size of a chunk."""

    scale: float = 1.0
    softcap: float | None = None
    temperature: float = 1.0
    chunk_bytes: int = 0
    new_tokens: Tensor | None = None
    """[R] tokens whose rows train while the head is frozen; None: none."""
    columns: Columns | None = None
    """The tokens of this process, of several that divide the vocabulary; None: all are here."""

    @property
    def slope(self) -> float:
        """d(logit)/d(W h + b) without the soft-cap: scale / temperature."""
        return self.scale / self.temperature


@dataclass(frozen=True, eq=False, slots=True)
class HeadProduct:
    """A head, prepared for many chunks."""

    matrix: HeadMatrix
    """[V, H]"""
    bias: Tensor | None
    """[V]"""
    new_rows: Tensor | None
    """[R, H], in the accumulation type; replace the matrix's rows of `settings.new_tokens`."""
    settings: LogitSettings

    @classmethod
    def frozen(cls, head: Head, temperature: float) -> Self:
        """Of a head that does not train."""
        new = head.new_rows
        settings = LogitSettings(head.scale, head.softcap, temperature, 0, None if new is None else new.tokens)
        matrix = HeadMatrix.of(head.weight.detach(), head.weight.dtype)
        new_rows = None if new is None else new.values.detach().to(head.weight.dtype).to(matrix.dtype)
        return cls(matrix, None if head.bias is None else head.bias.detach(), new_rows, settings)

    @property
    def vocabulary(self) -> int:
        """V"""
        return len(self.matrix.given)

    def logits(self, source: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits [m, V] of hidden states [m, H] in the accumulation type, divided by the temperature; and [m, V]
        tanh(x / c) of a soft-capped head, None without a cap."""
        settings = self.settings
        logits = self.matrix.logits(source)
        if self.new_rows is not None:
            logits[:, settings.new_tokens] = source.to(self.matrix.dtype) @ self.new_rows.T
        if self.bias is not None:
            logits += self.bias
        capped = None
        if settings.scale != 1.0:
            logits *= settings.scale
        if settings.softcap is not None:
            capped = torch.tanh(logits.div_(settings.softcap))
            logits = capped * settings.softcap
        if settings.temperature != 1.0:
            logits /= settings.temperature
        return logits, capped


def all_probabilities(
    hidden: Tensor, head: Head, matrix: HeadMatrix, *, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Next-token distributions for sampling, without gradients.

    Args:
        hidden: [R, H] last hidden states; memory is R times the vocabulary.
        head: the output head.
        matrix: the head's matrix, prepared for many calls.
        temperature: divisor of the logits.

    Returns:
        [R, V] softmax(z / T), and [R] log Σ exp(z / T).
    """
    dtype, new = matrix.dtype, head.new_rows
    settings = LogitSettings(head.scale, head.softcap, temperature, 0, None if new is None else new.tokens)
    new_rows = None if new is None else new.values.to(head.weight.dtype).to(dtype)
    logits, _ = HeadProduct(matrix, head.bias, new_rows, settings).logits(hidden)
    if head.columns is not None:
        logits = head.columns.gathered(logits)
    largest = logits.amax(dim=1)
    probabilities = torch.softmax(logits, dim=1, out=logits)
    return probabilities, largest - probabilities.amax(dim=1).log()
