"""Rows with an empty answer: of a learned turn, only the end token is learned. They teach the model to end at once.

Found in the tokens, so that every format, template and source of rows is covered.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from burnish.data.token_store import DOCUMENT, TokenStore

_LONGEST = 8
"""Tokens of the longest turn that is looked at: an end token, white space, the tags of an empty thought."""
_AT_ONCE = 1 << 16
"""Samples that are looked at together, since a set may be larger than memory."""


def rows_with_empty_answers(samples: TokenStore, tokenizer: PreTrainedTokenizerBase) -> NDArray[np.int64]:
    """Returns the indices of rows with a learned turn without text, ascending. Compared answers are not looked at:
    filters count them."""
    if samples.worth is not None or samples.scores is not None or samples.labels is not None:
        return np.zeros(0, np.int64)
    stops = np.cumsum(samples.lengths)
    blank: dict[int, bool] = dict.fromkeys(tokenizer.added_tokens_decoder, True)
    found = [np.zeros(0, np.int64)]
    for first in range(0, len(stops), _AT_ONCE):
        last = min(first + _AT_ONCE, len(stops))
        start = int(stops[first - 1]) if first else 0
        part = slice(start, int(stops[last - 1]))
        turns = _blank_turns(samples.tokens[part], samples.trainable[part], blank, tokenizer)
        found.append(np.searchsorted(stops, start + turns, side="right"))
    of_turns = np.concatenate(found)
    return np.unique(samples.rows[of_turns[samples.notes[of_turns, DOCUMENT] == 0]])


def _blank_turns(
    tokens: NDArray[np.int32], trainable: NDArray[np.bool_], blank: dict[int, bool], tokenizer: PreTrainedTokenizerBase
) -> NDArray[np.int64]:
    """Index of the first token of each learned turn that has no text. The first token of a sample is not learned, so a
    run of learned tokens is of one sample.

    Args:
        tokens: [T].
        trainable: [T].
        blank: token -> whether it has no text; filled in.
        tokenizer: decodes tokens.
    """
    edges = np.flatnonzero(np.diff(trainable, prepend=False, append=False))
    starts, stops = edges[::2], edges[1::2]
    short = stops - starts <= _LONGEST
    starts, stops = starts[short], stops[short]
    if not len(starts):
        return starts
    sizes = stops - starts
    inside = np.repeat(starts - np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes) + np.arange(sizes.sum())
    distinct, inverse = np.unique(tokens[inside], return_inverse=True)
    for token in distinct.tolist():
        if token not in blank:
            blank[token] = not str(tokenizer.decode([token])).strip()
    has_text = ~np.array([blank[token] for token in distinct.tolist()])[inverse]
    firsts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return starts[~np.logical_or.reduceat(has_text, firsts)]
