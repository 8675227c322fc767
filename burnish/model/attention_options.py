"""Options of a layer's attention, read by both kernels of packed attention."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False, slots=True)
class AttentionOptions:
    """The settings of one attention layer.

    A query attends to a key of its own sequence at distance d = position(query) − position(key) if d >= 0, d < window,
    and both are in the same chunk. Scores are  c · tanh(scaling · q·k / c),  and the weights of a query
    exp(score) / (exp(sink) + Σ exp(score)).  Example: `AttentionOptions(window=128, sinks=sinks)`, a windowed layer of
    gpt-oss.
    """

    scaling: float | None = None
    """Factor of the scores; None: 1 / sqrt(D)."""
    window: int | None = None
    """How many positions a token looks back, itself included; None: all."""
    chunk: int | None = None
    """Size of chunks of positions that do not attend to each other (Llama 4); None: no chunks."""
    softcap: float | None = None
    """c, the largest size of a score (Gemma 2); None: not capped."""
    sinks: Tensor | None = None
    """[heads], scores in the softmax of every query without a key or value (gpt-oss); None: no sinks."""

    def sees_all(self, length: int) -> bool:
        """Whether window and chunk hide nothing within the first `length` positions."""
        return (self.window is None or length <= self.window) and (self.chunk is None or length <= self.chunk)
