"""Groups of tokens of two tokenizers that span the same bytes of a text.

Used for distillation from a teacher with another tokenizer: the student wrote a response, the teacher tokenizes the
same text by its own tokenizer, and their log-probabilities are compared per group. Bytes and not characters, since one
character may be split over several tokens. The text of tokens is what the tokenizer's decoder writes, without special
tokens. Where both sides have the same tokens, every one of them is a group of its own.

Steps: `token_bytes` of both sides, `byte_groups`, and `group_sums` of each side's log-probabilities (log p of the same
bytes, by the chain rule), or `starts`, where both models predict from the same text.

Axes in comments: R tokens of one side, G groups.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from burnish.errors import ModelError

NO_GROUP = -1
"""Group of a token that is in none."""

_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
_BYTES = {chr(byte): byte for byte in _PRINTABLE} | {chr(256 + i): byte for i, byte in enumerate(_OTHERS)}
"""Character → byte, in byte-level vocabularies (GPT-2's ``bytes_to_unicode``)."""
_FALLBACK = re.compile("<0x([0-9A-Fa-f]{2})>")
_SENTENCEPIECE = re.compile("((Replace|Metaspace) )*(ByteFallback )?(Fuse (Strip )?)?")
"""Steps of a decoder whose bytes are known token by token. In another order (spaces after byte fallback, say), what a
token writes depends on others."""


def token_bytes(
    tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int], *, begins: bool = True
) -> list[bytes | None]:
    """Bytes that each token writes; None: a special token, or an id that is no token (a padding row of the embedding).

    Joined without None, they are the text that the tokenizer's decoder writes, in UTF-8. An incomplete character, which
    decoders replace by U+FFFD, keeps its bytes. Example: "▁t", "<0xC3>", "<0xA9>", "</s>" of Llama 2 give
    ``[b"t", b"\\xc3", b"\\xa9", None]``.

    Args:
        tokenizer: a fast one, of the kind byte-level or SentencePiece, as its decoder says.
        tokens: [R] ids.
        begins: the tokens begin a text, so that a decoder of the kind SentencePiece drops the space that such
            tokenizers put before a text. False: they continue one, and that space is text.

    Raises:
        ModelError: the bytes of single tokens are not known.
    """
    if not tokenizer.is_fast:
        raise _unknown(tokenizer, "is a slow one")
    core: Tokenizer = tokenizer.backend_tokenizer
    special = {token for token, added in core.get_added_tokens_decoder().items() if added.special}
    pieces = [None if token in special else core.id_to_token(token) for token in tokens]
    texts = [piece for piece in pieces if piece is not None]
    steps = _steps(core)
    kinds = "".join(f"{step['type']} " for step in steps)
    if kinds in ("ByteLevel ", "ByteLevel Fuse "):
        written = iter([_byte_level(text) for text in texts])
    elif _SENTENCEPIECE.fullmatch(kinds) and all(map(_is_known, steps)):
        written = iter(_sentencepiece(texts, steps, begins))
    else:
        raise _unknown(tokenizer, f"has the decoder {json.dumps(steps, ensure_ascii=False)}")
    return [None if piece is None else next(written) for piece in pieces]


@dataclass(frozen=True, slots=True)
class ByteGroups:
    """Groups of tokens of a student and a teacher that span the same bytes, in the order of the text.

    Example, "he" + "llo" + "!" and "hello" + "!": ``ByteGroups(student=[0, 0, 1], teacher=[0, 1], count=2)``.
    """

    student: list[int]
    """[R_s] group of each token of the student, ascending; `NO_GROUP` where it is in none."""
    teacher: list[int]
    """[R_t] the same of the teacher's tokens."""
    count: int
    """G. Every group has at least one token of each side."""


def byte_groups(student: Sequence[bytes | None], teacher: Sequence[bytes | None], *, ends: bool = False) -> ByteGroups:
    """Smallest runs of tokens of both sides that span the same bytes, up to where the two texts differ.

    In no group are special tokens, and tokens from the first group on whose bytes differ. A token without bytes is in
    the group of the text before it, and in none at the beginning.

    Args:
        student: [R_s] of `token_bytes`.
        teacher: [R_t] of `token_bytes`.
        ends: the last tokens form the last group, if both are special and the texts before them are equal (the two
            tokens that end a turn).
    """
    written, taught = (b"".join(filter(None, side)) for side in (student, teacher))
    student_stops, teacher_stops = _stops(student), _stops(teacher)
    borders = list[int]()
    start = 0
    for stop in sorted({*student_stops} & {*teacher_stops} - {0}):
        if written[start:stop] != taught[start:stop]:
            break
        borders.append(stop)
        start = stop
    ours, theirs, count = (
        _groups(student, student_stops, borders),
        _groups(teacher, teacher_stops, borders),
        len(borders),
    )
    if ends and written == taught and [*student[-1:], *teacher[-1:]] == [None, None]:
        return ByteGroups([*ours[:-1], count], [*theirs[:-1], count], count + 1)
    return ByteGroups(ours, theirs, count)


def group_sums(values: Tensor, groups: Sequence[int], count: int) -> Tensor:
    """[R] → [G], the sum over the tokens of each group, always in the order of the tokens.

    Args:
        values: [R] floating-point numbers of one side's tokens.
        groups: [R] of `ByteGroups`.
        count: G.
    """
    assert values.shape == (len(groups),), f"one value for each of {len(groups)} tokens, got {tuple(values.shape)}"
    kept = torch.tensor([at for at, group in enumerate(groups) if group != NO_GROUP], dtype=torch.int64)
    sizes = torch.bincount(torch.tensor(groups, dtype=torch.int64)[kept], minlength=count)
    return torch.segment_reduce(values[kept.to(values.device)], "sum", lengths=sizes.to(values.device), unsafe=True)


def starts(groups: Sequence[int]) -> list[int]:
    """[G] index of the first token of each group. Before these tokens both sides have the same text."""
    first: dict[int, int] = {}
    for at, group in enumerate(groups):
        if group != NO_GROUP:
            first.setdefault(group, at)
    return list(first.values())


def _stops(side: Sequence[bytes | None]) -> list[int]:
    """[R] number of bytes up to the end of each token."""
    return list(accumulate(len(part or b"") for part in side))


def _groups(side: Sequence[bytes | None], stops: Sequence[int], borders: Sequence[int]) -> list[int]:
    """[R] group of each token, from the number of bytes at the end of each group."""
    last = borders[-1] if borders else 0
    return [
        bisect_left(borders, stop) if part is not None and 0 < stop <= last else NO_GROUP
        for part, stop in zip(side, stops, strict=True)
    ]


def _steps(core: Tokenizer) -> list[Mapping[str, Any]]:
    """Settings of the decoder's steps. Its pickled state is its JSON; that of the tokenizer has the vocabulary too."""
    if core.decoder is None:
        return [{"type": "None"}]
    settings = json.loads(core.decoder.__getstate__())
    return settings["decoders"] if settings["type"] == "Sequence" else [settings]


def _is_known(step: Mapping[str, Any]) -> bool:
    """True if a step of `_SENTENCEPIECE` changes tokens without regard to what follows."""
    if step["type"] == "Replace":
        return "String" in step["pattern"]
    return step["type"] != "Strip" or (step["stop"] == 0 and step["content"].isascii())


def _byte_level(piece: str) -> bytes:
    """Bytes of a piece; one with another character (an added token) writes its own text, as in the decoder."""
    try:
        return bytes(map(_BYTES.__getitem__, piece))
    except KeyError:
        return piece.encode()


def _sentencepiece(pieces: Sequence[str], steps: Iterable[Mapping[str, Any]], begins: bool) -> list[bytes]:
    """Bytes of pieces by the steps of `_SENTENCEPIECE`, in their order."""
    texts, fallback, stripped = list(pieces), False, b""
    for step in steps:
        if step["type"] == "Replace":
            texts = [text.replace(step["pattern"]["String"], step["content"]) for text in texts]
        elif step["type"] == "Metaspace":
            first = "" if begins and step["prepend_scheme"] != "never" else " "
            texts = [text.replace(step["replacement"], " " if at else first) for at, text in enumerate(texts)]
        elif step["type"] == "Strip" and begins:
            stripped = step["content"].encode() * step["start"]
        fallback |= step["type"] == "ByteFallback"
    return _without_start([_of_text(text, fallback) for text in texts], stripped)


def _of_text(text: str, fallback: bool) -> bytes:
    byte = _FALLBACK.fullmatch(text) if fallback else None
    return text.encode() if byte is None else bytes.fromhex(byte[1])


def _without_start(parts: Sequence[bytes], stripped: bytes) -> list[bytes]:
    """Parts without what their beginning has of some equal bytes."""
    left = len(stripped)
    rest = list[bytes]()
    for part in parts:
        kept = part[:left].lstrip(stripped) + part[left:] if left else part
        rest.append(kept)
        left = 0 if kept else left - len(part)
    return rest


def _unknown(tokenizer: PreTrainedTokenizerBase, how: str) -> ModelError:
    return ModelError(
        given=f"the tokenizer {type(tokenizer).__name__} {how}",
        rule="two tokenizers are aligned by the bytes that each token writes, which are known of fast tokenizers "
        "(tokenizer.json) with a byte-level decoder, or one of the kind SentencePiece (spaces written as another "
        "character, with or without byte fallback)",
        remedy="use a student and a teacher with such tokenizers, or with the same tokenizer",
    )
