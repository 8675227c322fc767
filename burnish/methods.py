"""The methods: each a source, a credit rule and a loss, with vetted defaults and the paper it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from burnish.losses import CrossEntropy, Loss
from burnish.sources import RowSource, Source
from burnish.types import Group


@dataclass(frozen=True, eq=False, slots=True)
class Method:
    """Where groups come from and what is minimised on them."""

    source: Source
    loss: Loss


def sft(
    rows: Sequence[Sequence[Group]],
    *,
    sequences_per_step: int = 32,
    seed: int = 0,
    epochs: float = 1.0,
    max_steps: int | None = None,
    shuffle: bool = True,
    loss: Loss | None = None,
) -> Method:
    """Supervised fine-tuning: the likelihood of given responses (Wei et al. 2021, arXiv 2109.01652).

    Groups of one response from rows of data; no credit rule; cross-entropy over the trained tokens of the whole step.
    """
    source = RowSource(
        rows, sequences_per_step=sequences_per_step, seed=seed, epochs=epochs, max_steps=max_steps, shuffle=shuffle
    )
    return Method(source, loss or CrossEntropy())
