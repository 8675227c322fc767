"""Text of tokens, to be read by people: in logs, reports and views."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

_MANY_EQUAL = 5
"""Equal special tokens in sequence that are shown as one."""


def runs(
    tokens: NDArray[np.int32], learned: NDArray[np.bool_] | NDArray[np.float32], tokenizer: PreTrainedTokenizerBase
) -> tuple[tuple[str, float], ...]:
    """Decoded text of a sample, in runs of equal mask or weight: (text, whether it is learned, or its weight)."""
    borders = np.flatnonzero(learned[1:] != learned[:-1]) + 1
    parts = zip(np.split(tokens, borders), np.split(learned, borders), strict=True)
    return tuple((shown_text(part.tolist(), tokenizer), values[0].item()) for part, values in parts)


def shown_text(tokens: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """Decoded text to be read: many equal special tokens in sequence, such as those of an image, as one with their
    number (``<image>×64``)."""
    pieces: list[str] = []
    waiting: list[int] = []
    for token, equal in groupby(tokens):
        members = list(equal)
        if len(members) < _MANY_EQUAL or token not in tokenizer.added_tokens_decoder:
            waiting += members
            continue
        pieces += [str(tokenizer.decode(waiting)), f"{tokenizer.decode([token])}×{len(members)}"]
        waiting = []
    return "".join([*pieces, str(tokenizer.decode(waiting))])
