"""Encoding: the tokens of a text with the characters that each writes.

Used by `tokenize`, which finds the learned tokens by it. Offsets from the tokenizer cost as much again as the
tokenization. In byte-level vocabularies a token has a fixed width in bytes; where the widths add up to the text, they
give the same offsets.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from unicodedata import is_normalized

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, pre_tokenizers

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_ZERO = np.zeros(1, np.int64)


@dataclass(frozen=True, eq=False, slots=True)
class Encoding:
    """T tokens of a text, with the characters that each writes."""

    tokens: NDArray[np.int32]
    starts: Ints
    """[T] the first character of each token."""
    stops: Ints
    """[T] the character after the last."""
    reached: Ints
    """[T] the largest stop of the earlier tokens."""


def encode_with_offsets(texts: Sequence[str], tokenizer: Tokenizer) -> Iterator[Encoding]:
    """Tokenizes texts with the tokenizer's own character offsets."""
    for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
        yield Encoding(np.array(encoding.ids, np.int32), *_extents(encoding.offsets))


def encode_by_width(text: str, tokens: NDArray[np.int32], widths: Ints) -> Encoding | None:
    """Character offsets from the width of each token in bytes; None: the tokens do not write exactly this text."""
    stops = np.cumsum(widths[tokens])
    size = len(text) if text.isascii() else len(data := np.frombuffer(text.encode(), np.uint8))
    if not len(tokens) or stops[-1] != size or not is_normalized("NFC", text):
        return None
    starts = np.concatenate([_ZERO, stops[:-1]])
    if size == len(text):
        return Encoding(tokens, starts, stops, starts)
    owner = np.cumsum((data & 0xC0) != 0x80) - 1  # a token that writes some bytes of a character writes it
    starts, stops = owner[starts], owner[stops - 1] + 1
    return Encoding(tokens, starts, stops, np.concatenate([_ZERO, stops[:-1]]))


def token_widths(tokenizer: Tokenizer) -> Ints | None:
    """[V] bytes that each token writes; None: the vocabulary is not byte-level."""
    settings = json.loads(tokenizer.to_str())
    added = {entry["id"]: entry for entry in settings["added_tokens"]}
    byte_characters = set(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    strips = any(entry["lstrip"] or entry["rstrip"] for entry in added.values())
    changes = settings["normalizer"] is not None and settings["normalizer"]["type"] != "NFC"
    if not isinstance(tokenizer.decoder, decoders.ByteLevel) or strips or changes:
        return None
    widths = np.zeros(max(vocabulary.values()) + 1, np.int64)
    for piece, token in vocabulary.items():
        if token not in added and not byte_characters.issuperset(piece):
            return None
        widths[token] = len(piece.encode()) if token in added else len(piece)
    return widths


def tokens_of_span(starts: Ints, stops: Ints, span: tuple[int, int]) -> Ints:
    """Indices of the tokens that write a character of the span."""
    start, stop = span
    if start >= stop:
        return np.empty(0, np.int64)
    # Starts and stops ascend, so a span costs its own length, not that of the text.
    first, last = int(np.searchsorted(stops, start, side="right")), int(np.searchsorted(starts, stop, side="left"))
    return np.arange(first, last)


def outside(starts: Ints, stops: Ints, skipped: Sequence[tuple[int, int]]) -> Bools:
    """[T] True for a token that writes a character outside the skipped parts."""
    outside = np.ones(len(starts), np.bool_)
    for start, stop in skipped:
        outside &= ~((start <= starts) & (stops <= stop))
    return outside


def _extents(offsets: Sequence[tuple[int, int]]) -> tuple[Ints, Ints, Ints]:
    """[T] each: starts and stops of the characters of a token, at least one, and the largest stop of earlier tokens.

    Byte-level tokenizers with trimmed offsets give white space no width, at its end: such a token writes the gap
    before it. The space that some put before a whole text has no width at its start, and goes with the first character.
    """
    pairs = np.fromiter(chain.from_iterable(offsets), np.int64, 2 * len(offsets)).reshape(-1, 2)
    starts, stops = pairs[:, 0].copy(), pairs[:, 1].copy()
    empty = starts >= stops
    reached = np.concatenate([np.zeros(1, np.int64), np.maximum.accumulate(stops)])[:-1]
    gap = empty & (reached < starts)
    starts[gap] = reached[gap]
    stops[empty & ~gap] = starts[empty & ~gap] + 1
    return starts, stops, reached
