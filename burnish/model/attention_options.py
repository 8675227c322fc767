"""What a layer's attention has beside queries, keys and values. Both kernels of packed attention read it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False, slots=True)
class AttentionOptions:
    """The settings of one attention layer.

    A row sees a column at distance d = position(row) − position(column) of its own sequence if d >= 0, d < window, and
    both are in the same chunk. Scores are  c · tanh(scaling · q·k / c),  and the weights of a row
    exp(score) / (exp(sink) + Σ exp(score)).  Example: `AttentionOptions(window=128, sinks=sinks)`, a windowed layer of
    gpt-oss.
    """

    scaling: float | None = None
    """Factor of the scores; None: 1 / sqrt(D)."""
    window: int | None = None
    """How many positions a token looks back, itself included; None: all."""
    chunk: int | None = None
    """Positions are cut into chunks of so many (Llama 4), none sees another; None: not cut."""
    softcap: float | None = None
    """c, the largest size of a score (Gemma 2); None: not capped."""
    sinks: Tensor | None = None
    """[heads], a score with nothing behind it that draws weight from every row (gpt-oss); None: no sinks."""

    def sees_all(self, seen: int) -> bool:
        """Whether neither window nor chunk hides anything within the first `seen` positions."""
        return (self.window is None or seen <= self.window) and (self.chunk is None or seen <= self.chunk)
