"""Token cache: tokenizes each distinct piece of text once.

Used by `tokenize`. Tokenization is most of the time of preparing a set, and a tokenizer repeats it for every occurrence
of a word. A tokenizer that splits text by one of the patterns below never joins a space and a letter with the text
before the space: a text can be split there, and around control tokens, and the concatenated ids of its pieces are the
ids of the text. So each piece is tokenized once and its ids are cached. Patterns and merges are the tokenizer's; only
the split positions are determined here. Other tokenizers get whole texts.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from burnish.data.special_token_text import any_of

_CONTRACTED = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_PATTERNS = frozenset(
    {
        # GPT-2, Llama 3, Qwen 2 and 3, Qwen 3.5, GPT-4o and gpt-oss: facts of their tokenizer.json
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        _CONTRACTED + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + _SPACES,
        _CONTRACTED + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + _SPACES,
        _CONTRACTED + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + _SPACES,
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTED}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTED}?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + _SPACES,
    }
)
_BLOCK = 1_000_000
"""Characters whose pieces are in memory at a time."""
_MAX_CACHED = 4_000_000
"""Characters of cached pieces at which the cache is cleared: about 50 MB."""


class TokenCache:
    """Tokenizes texts like its tokenizer, with a cache of the ids of pieces."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._pattern = _piece_pattern(tokenizer)
        self._ids: dict[str, bytes] = {}
        """The ids of each piece, as int32."""
        self._size = 0

    def tokens(self, texts: Sequence[str]) -> Iterator[NDArray[np.int32]]:
        """[T] token ids of each text, with nothing added."""
        for block in _blocks(texts):
            pieces = [self._pattern.findall(text) for text in block]
            self._encode_new(set().union(*pieces))
            for parts in pieces:
                yield np.frombuffer(b"".join(map(self._ids.__getitem__, parts)), np.int32)

    def _encode_new(self, pieces: set[str]) -> None:
        if self._size > _MAX_CACHED:
            self._ids.clear()
            self._size = 0
        new = list(pieces - self._ids.keys())
        encodings = self._tokenizer.encode_batch_fast(new, add_special_tokens=False)
        self._ids.update(zip(new, (np.array(encoding.ids, np.int32).tobytes() for encoding in encodings), strict=True))
        self._size += sum(map(len, new))


def can_be_split(tokenizer: Tokenizer) -> bool:
    """True if the ids of a text are the concatenated ids of its pieces."""
    settings = json.loads(tokenizer.to_str())
    model, normalizer = settings["model"], settings["normalizer"]
    return (
        all(map(_is_local, settings["added_tokens"]))
        and model["type"] == "BPE"
        and not model["dropout"]
        and (normalizer is None or normalizer["type"] == "NFC")  # NFC never composes a space with another character
        and _splits_at_cuts(settings["pre_tokenizer"])
    )


def _is_local(added: Mapping[str, Any]) -> bool:
    """True if an added token neither depends on its neighbors nor spans a split position."""
    depends = added["lstrip"] or added["rstrip"] or added["single_word"]
    decomposed = unicodedata.normalize("NFD", added["content"])  # the form that a normalizer may produce
    return not depends and " " not in decomposed and not re.match("[A-Za-z]", decomposed)


def _piece_pattern(tokenizer: Tokenizer) -> re.Pattern[str]:
    """Pattern of a piece. Split positions are before a space and an ASCII letter, and around added tokens.

    Tokenizers match added tokens in the original text, and some of them (``normalized``) later, in the normalized rest.
    Where that may differ from a match of the leftmost token, added tokens stay inside their pieces.
    """
    added = tokenizer.get_added_tokens_decoder().values()
    later = {token.normalized for token in added}
    whole = any_of([token.content for token in added] if later == {False} else []).pattern
    first = "".join(sorted({re.escape(token.content[0]) for token in added})) or "<"
    rest = f"[^ {first}]*"
    return re.compile(f"{whole}|(?: [A-Za-z])?{rest}(?:(?: (?![A-Za-z])|(?!{whole})[{first}]){rest})*")


def _splits_at_cuts(settings: Mapping[str, Any] | None) -> bool:
    steps = (settings or {}).get("pretokenizers", [settings or {"type": "none"}])
    return any(map(_splits, steps)) and all(_splits(step) or _is_harmless(step) for step in steps)


def _splits(step: Mapping[str, Any]) -> bool:
    """True if a pre-tokenizer separates a space and a letter from the text before them."""
    if step["type"] == "Split":
        by = step["pattern"].get("Regex")
        return by in _PATTERNS and step["behavior"] == "Isolated" and not step["invert"]
    return step["type"] == "ByteLevel" and step["use_regex"] and not step["add_prefix_space"]


def _is_harmless(step: Mapping[str, Any]) -> bool:
    """True if a pre-tokenizer splits nothing, or only digits from the rest."""
    return step["type"] == "Digits" or (step["type"] == "ByteLevel" and not step["add_prefix_space"])


def _blocks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yields the texts in order, in blocks of at most _BLOCK characters; a block has at least one text."""
    start = size = 0
    for index, text in enumerate(texts):
        if size and size + len(text) > _BLOCK:
            yield texts[start:index]
            start, size = index, 0
        size += len(text)
    yield texts[start:]
