"""Text becomes tokens, and character ranges a mask: what exactly is learned.

Stands between `template` and `prepare`. A text is tokenised once, as a whole, with nothing added: what the template
wrote is what the model sees, and there is never a second begin token. A token is learned if it writes a character of a
span. The token that ends a turn is learned; what a template puts after it (a newline, say) is not, since nobody ever
samples it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from burnish.data.template import Rendering
from burnish.errors import ModelError
from burnish.types import Group, Response

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False, slots=True)
class Sample:
    """One tokenised rendering, up to its last learned token.

    Example, prompt [9, 4] and answer [5, 2]: ``Sample(tokens=array([9, 4, 5, 2]), prompt_length=2, ends=(2,),
    trainable=array([False, False, True, True]), num_unended=0, num_straddling=0)``.
    """

    tokens: NDArray[np.int32]
    """[T] token ids, T >= 2."""
    trainable: Bools
    """[T]; the last is True, the first is False: nothing predicts it."""
    prompt_length: int
    """Tokens before the first learned one, at least 1."""
    ends: tuple[int, ...]
    """The last learned token of each turn that has an end token."""
    num_unended: int
    """Turns without an end token: they do not teach the model to stop."""
    num_straddling: int
    """Turns whose first token also writes the end of what precedes them (two newlines as one token, say): serving,
    which tokenises the prompt alone, never gives the model the choice of that token."""


def tokenize(renderings: Sequence[Rendering], tokenizer: PreTrainedTokenizerBase) -> list[Sample | None]:
    """A sample for each rendering; None: it has no token to learn."""
    if not tokenizer.is_fast:
        raise ModelError(
            given=f"the tokenizer {type(tokenizer).__name__} is a slow one",
            rule="the tokenizer must say which characters each token writes, which fast ones (tokenizer.json) do",
            remedy="convert the tokenizer with transformers, or use a model with a tokenizer.json",
        )
    if not renderings:
        return []
    encoded = tokenizer(
        [rendering.text for rendering in renderings],
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        padding=False,
        truncation=False,
        verbose=False,
    )
    markers = frozenset(tokenizer.added_tokens_decoder)
    return [
        _sample(rendering, np.asarray(tokens, np.int32), offsets, tokenizer.eos_token_id, markers)
        for rendering, tokens, offsets in zip(renderings, encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]


def to_group(tokens: NDArray[np.int32], trainable: Bools, prompt_length: int, metadata: Mapping[str, object]) -> Group:
    """The group of one sample: everything before the first learned token is the prompt."""
    ids = torch.from_numpy(tokens.astype(np.int64))
    response = Response(tokens=ids[prompt_length:], trainable=torch.from_numpy(trainable[prompt_length:].copy()))
    return Group(prompt=ids[:prompt_length], responses=(response,), metadata=metadata)


def _sample(
    rendering: Rendering, tokens: NDArray[np.int32], offsets: object, eos: int | None, markers: frozenset[int]
) -> Sample | None:
    starts, stops, reached = _extents(offsets)
    trainable = np.zeros(len(tokens), np.bool_)
    ends: list[int] = []
    unended = straddling = 0
    for start, stop in rendering.spans:
        inside = np.flatnonzero((starts < stop) & (stops > start)) if start < stop else np.empty(0, np.int64)
        texts = [rendering.text[starts[i] : stops[i]] for i in inside[-_TAIL:]]
        cut, end = _end_of_turn(tokens[inside[-_TAIL:]].tolist(), texts, eos, markers)
        trainable[inside[: len(inside) - cut]] = True
        if end is None:
            unended += 1
        else:
            ends.append(end)
        straddling += len(inside) > 0 and bool(min(starts[inside[0]], reached[inside[0]]) < start)
    learned = _learned(trainable)
    if len(learned) == 0:
        return None
    size = int(learned[-1]) + 1  # what follows the last learned token changes nothing that is learned
    return Sample(tokens[:size], trainable[:size], int(learned[0]), tuple(ends), unended, straddling)


def _learned(trainable: Bools) -> Ints:
    """Indices of the learned tokens. The first token of a text is never one: nothing predicts it."""
    trainable[:1] = False
    return np.flatnonzero(trainable)


_TAIL = 32
"""Tokens at the end of a span among which its end token is sought."""


def _end_of_turn(
    tokens: Sequence[int], texts: Sequence[str], eos: int | None, markers: frozenset[int]
) -> tuple[int, int | None]:
    """How many tokens of a span follow its end token, and that token.

    Only added tokens and white space may stand after the end token: so a marker in the middle of an answer, such as
    one that closes its thinking, ends nothing. Among those, the tokenizer's own end token wins, then the last marker.
    """
    found: tuple[int, int | None] = (0, None)
    for after, (token, text) in enumerate(zip(reversed(tokens), reversed(texts), strict=True)):
        if token == eos:
            return after, token
        if text.isspace():
            continue
        if token not in markers:
            break
        if found[1] is None:
            found = (after, token)
    return found


def _extents(offsets: object) -> tuple[Ints, Ints, Ints]:
    """[T] each: the characters [start, stop) that a token writes, at least one, and how far the earlier tokens reach.

    Byte-level tokenizers with trimmed offsets give white space no width, at its end: such a token writes the gap
    before it. The space that some put before a whole text has no width at its start, and goes with the first character.
    """
    pairs = np.asarray(offsets, np.int64).reshape(-1, 2)
    starts, stops = pairs[:, 0].copy(), pairs[:, 1].copy()
    empty = starts >= stops
    reached = np.concatenate([np.zeros(1, np.int64), np.maximum.accumulate(stops)])[:-1]
    gap = empty & (reached < starts)
    starts[gap] = reached[gap]
    stops[empty & ~gap] = starts[empty & ~gap] + 1
    return starts, stops, reached
