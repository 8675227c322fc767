"""Texts become token ids, every stretch of words only once.

Used by `tokenize`. Tokenising is most of the work of preparing a set, and a tokenizer does it anew for every word that
it has seen a thousand times. A tokenizer that splits text by one of the patterns below never joins a space and a letter
with what stands before the space: a text may be cut there, as well as around control tokens, and the ids of all its
pieces put together are its own. So the tokenizer is asked for each piece once, and what it said is kept. No pattern is
run here, and no merge: only the cuts are ours. Other tokenizers are asked for whole texts.
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
"""Characters whose pieces are in memory at once."""
_KEPT = 4_000_000
"""Characters of pieces that are kept, then all are forgotten: some 50 MB."""


class TokenCache:
    """Tokenises as a tokenizer does, and remembers pieces of text."""

    def __init__(self, core: Tokenizer) -> None:
        self._core = core
        self._piece = _piece(core)
        self._known: dict[str, bytes] = {}
        """The ids of each piece, as int32."""
        self._size = 0

    def tokens(self, texts: Sequence[str]) -> Iterator[NDArray[np.int32]]:
        """[T] token ids of each text, with nothing added."""
        for block in _blocks(texts):
            pieces = [self._piece.findall(text) for text in block]
            self._learn(set().union(*pieces))
            for each in pieces:
                yield np.frombuffer(b"".join(map(self._known.__getitem__, each)), np.int32)

    def _learn(self, pieces: set[str]) -> None:
        if self._size > _KEPT:
            self._known.clear()
            self._size = 0
        new = list(pieces - self._known.keys())
        encoded = self._core.encode_batch_fast(new, add_special_tokens=False)
        self._known.update(zip(new, (np.array(each.ids, np.int32).tobytes() for each in encoded), strict=True))
        self._size += sum(map(len, new))


def may_be_cut(core: Tokenizer) -> bool:
    """Whether a tokenizer gives the same ids for a text as for its pieces."""
    described = json.loads(core.to_str())
    model, normalizer = described["model"], described["normalizer"]
    return (
        all(map(_minds_itself, described["added_tokens"]))
        and model["type"] == "BPE"
        and not model["dropout"]
        and (normalizer is None or normalizer["type"] == "NFC")  # which never joins a space with anything
        and _splits_at_cuts(described["pre_tokenizer"])
    )


def _minds_itself(added: Mapping[str, Any]) -> bool:
    """Whether an added token neither depends on what is beside it nor lies across a cut."""
    depends = added["lstrip"] or added["rstrip"] or added["single_word"]
    decomposed = unicodedata.normalize("NFD", added["content"])  # as a normaliser may find it
    return not depends and " " not in decomposed and not re.match("[A-Za-z]", decomposed)


def _piece(core: Tokenizer) -> re.Pattern[str]:
    """From one cut to the next: before every space that a letter of ASCII follows, and around added tokens.

    Tokenizers look for added tokens in the text as it is, and for some of them (``normalized``) later, in what is left,
    after it was normalised. Where that may differ from finding the leftmost, added tokens stay inside their pieces.
    """
    added = core.get_added_tokens_decoder().values()
    later = {token.normalized for token in added}
    whole = any_of([token.content for token in added] if later == {False} else []).pattern
    first = "".join(sorted({re.escape(token.content[0]) for token in added})) or "<"
    rest = f"[^ {first}]*"
    return re.compile(f"{whole}|(?: [A-Za-z])?{rest}(?:(?: (?![A-Za-z])|(?!{whole})[{first}]){rest})*")


def _splits_at_cuts(described: Mapping[str, Any] | None) -> bool:
    steps = (described or {}).get("pretokenizers", [described or {"type": "none"}])
    return any(map(_splits, steps)) and all(_splits(step) or _is_quiet(step) for step in steps)


def _splits(step: Mapping[str, Any]) -> bool:
    """Whether a step of the splitting separates a space and a letter from what is before them."""
    if step["type"] == "Split":
        by = step["pattern"].get("Regex")
        return by in _PATTERNS and step["behavior"] == "Isolated" and not step["invert"]
    return step["type"] == "ByteLevel" and step["use_regex"] and not step["add_prefix_space"]


def _is_quiet(step: Mapping[str, Any]) -> bool:
    """Whether a step splits nothing, or only digits from the rest."""
    return step["type"] == "Digits" or (step["type"] == "ByteLevel" and not step["add_prefix_space"])


def _blocks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """The texts in their order, as many at a time as a block holds; at least one."""
    start = size = 0
    for index, text in enumerate(texts):
        if size and size + len(text) > _BLOCK:
            yield texts[start:index]
            start, size = index, 0
        size += len(text)
    yield texts[start:]
