"""Text becomes tokens, and character ranges a mask: what exactly is learned.

Stands between `template` and `prepare`. A text is tokenised once, as a whole, with nothing added: what the template
wrote is what the model sees, and there is never a second begin token. A token is learned if it writes a character of a
span. The token that ends a turn is learned; what a template puts after it (a newline, say) is not, since nobody ever
samples it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from unicodedata import is_normalized

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, pre_tokenizers
from transformers import PreTrainedTokenizerBase

from burnish.data.rendering import Rendering
from burnish.data.special_token_text import Twin
from burnish.data.token_cache import TokenCache, may_be_cut
from burnish.errors import DataError, ModelError
from burnish.types import Group, Response

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_ZERO = np.zeros(1, np.int64)


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
    num_ordinary: int = 0
    """Control strings of the row that were read as ordinary text."""
    shortened: bool = False
    """Whether the conversation lost its earliest turns."""
    document: bool = False
    """Whether it is plain text, which may be cut into pieces."""
    weights: NDArray[np.float32] | None = None
    """[T] how much each learned token counts, > 0; None: 1 everywhere."""
    place: int = 0
    """Among the responses to one prompt; 0: it is the first, or the only one."""
    worth: float | None = None
    """How good the response is; None: it is not judged."""
    scores: tuple[float, ...] | None = None
    """K scores of the response; None: it has none."""
    labels: NDArray[np.float32] | None = None
    """[T] how good the step is that ends at a token; NaN: none ends there. None: it is not judged by steps."""


@dataclass(frozen=True, eq=False, slots=True)
class _Written:
    """A text as T tokens."""

    tokens: NDArray[np.int32]
    starts: Ints
    """[T] the first character that each token writes."""
    stops: Ints
    """[T] the character after the last."""
    reached: Ints
    """[T] how far the tokens before reach."""


class Encoder:
    """Makes samples of renderings. Holds what is worked out once for a tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raises ModelError for a tokenizer that cannot say which characters a token writes."""
        if not tokenizer.is_fast:
            raise ModelError(
                given=f"the tokenizer {type(tokenizer).__name__} is a slow one",
                rule="the tokenizer must say which characters each token writes, which fast ones (tokenizer.json) do",
                remedy="convert the tokenizer with transformers, or use a model with a tokenizer.json",
            )
        self._core: Tokenizer = tokenizer.backend_tokenizer
        self._end: int | None = tokenizer.eos_token_id
        self._markers = frozenset(tokenizer.added_tokens_decoder)

    @cached_property
    def _twin(self) -> Twin:
        return Twin(self._core)

    def samples(self, renderings: Sequence[Rendering]) -> list[Sample | DataError]:
        """A sample for each rendering, or the reason why there is none."""
        samples: list[Sample | DataError | None] = [None] * len(renderings)
        plain = [i for i, rendering in enumerate(renderings) if not rendering.ordinary]
        # transformers would call the same, and then build lists of masks and types that nobody reads.
        self._core.no_truncation()
        self._core.no_padding()
        self._core.encode_special_tokens = False
        for i, written in zip(plain, self._written([renderings[i].text for i in plain]), strict=True):
            samples[i] = self._sample(renderings[i], written)
        for i, rendering in enumerate(renderings):
            if rendering.ordinary:
                samples[i] = self._with_ordinary(rendering)
        return [sample for sample in samples if sample is not None]

    def _with_ordinary(self, rendering: Rendering) -> Sample | DataError:
        try:
            text = self._twin.named(rendering.text, rendering.ordinary)
        except DataError as error:
            return error
        (written,) = _asked([text], self._twin.core)
        return self._sample(rendering, written)

    def _written(self, texts: Sequence[str]) -> Iterator[_Written]:
        """Each text as tokens with the characters that they write.

        Asking the tokenizer for characters costs as much again as tokenising. In byte-level vocabularies a token has a
        fixed width in bytes; where the widths add up to the text, they say the same.
        """
        widths = self._widths
        if widths is None:
            yield from _asked(texts, self._core)
            return
        for text, tokens in zip(texts, self._tokens(texts), strict=True):
            written = _by_width(text, tokens, widths)
            yield from _asked([text], self._core) if written is None else (written,)

    def _tokens(self, texts: Sequence[str]) -> Iterator[NDArray[np.int32]]:
        if self._words is not None:
            return self._words.tokens(texts)
        encoded = self._core.encode_batch_fast(texts, add_special_tokens=False)
        return (np.array(each.ids, np.int32) for each in encoded)

    @cached_property
    def _words(self) -> TokenCache | None:
        return TokenCache(self._core) if may_be_cut(self._core) else None

    @cached_property
    def _widths(self) -> Ints | None:
        """[V] bytes that each token writes; None: the vocabulary is not byte-level."""
        described = json.loads(self._core.to_str())
        added = {entry["id"]: entry for entry in described["added_tokens"]}
        letters = set(pre_tokenizers.ByteLevel.alphabet())
        vocabulary = self._core.get_vocab(with_added_tokens=True)
        plain = not any(entry["lstrip"] or entry["rstrip"] for entry in added.values())
        changes = described["normalizer"] is not None and described["normalizer"]["type"] != "NFC"
        if not isinstance(self._core.decoder, decoders.ByteLevel) or not plain or changes:
            return None
        widths = np.zeros(max(vocabulary.values()) + 1, np.int64)
        for piece, token in vocabulary.items():
            if token not in added and not letters.issuperset(piece):
                return None
            widths[token] = len(piece.encode()) if token in added else len(piece)
        return widths

    def _sample(self, rendering: Rendering, written: _Written) -> Sample | DataError:
        tokens, starts, stops, reached = written.tokens, written.starts, written.stops, written.reached
        trainable = np.full(len(tokens), rendering.everything)
        ends: list[int] = []
        weights = None if set(rendering.weights) <= {1.0} else np.ones(len(tokens), np.float32)
        unended = straddling = 0
        for number, span in enumerate(rendering.spans):
            inside = _writing(starts, stops, span)
            tail = inside[: -_TAIL - 1 : -1]
            places = zip(starts[tail].tolist(), stops[tail].tolist(), strict=True)
            texts = (rendering.text[start:stop] for start, stop in places)
            cut, end = _end_of_turn(tokens[tail].tolist(), texts, self._end, self._markers)
            kept = inside[: len(inside) - cut]
            trainable[kept] = _wanted(starts[kept], stops[kept], rendering.skipped) if rendering.skipped else True
            if end is None:
                unended += 1
            else:
                ends.append(end)
                trainable[kept[-1]] = True
            if weights is not None:
                weights[inside] = rendering.weights[number]
            straddling += len(inside) > 0 and bool(min(starts[inside[0]], reached[inside[0]]) < span[0])
        learned = _learned(trainable)
        if len(learned) == 0:
            return _nothing_learned(rendering)
        labels = _labels(rendering, written) if rendering.labels else None
        if isinstance(labels, DataError):
            return labels
        size = int(learned[-1]) + 1  # what follows the last learned token changes nothing that is learned
        return Sample(
            tokens[:size],
            trainable[:size],
            prompt_length=int(learned[0]),
            ends=tuple(ends),
            num_unended=unended,
            num_straddling=straddling,
            num_ordinary=len(rendering.ordinary),
            document=rendering.document,
            weights=None if weights is None else weights[:size],
            labels=None if labels is None else labels[:size],
        )


def tokenize(renderings: Sequence[Rendering], tokenizer: PreTrainedTokenizerBase) -> list[Sample | DataError]:
    """A sample for each rendering, or the reason why there is none."""
    return Encoder(tokenizer).samples(renderings)


def to_response(
    tokens: NDArray[np.int32],
    trainable: Bools,
    weights: NDArray[np.float32] | None = None,
    reward: float | None = None,
    scores: tuple[float, ...] | None = None,
    labels: NDArray[np.float32] | None = None,
) -> Response:
    """What follows the prompt of a sample."""
    learned = np.array(trainable)
    counts = None if weights is None else np.array(weights, np.float32)
    if counts is not None and (counts[learned] == 1).all():
        counts = None
    return Response(
        tokens=torch.from_numpy(tokens.astype(np.int64)),
        trainable=torch.from_numpy(learned),
        weights=None if counts is None else torch.from_numpy(counts),
        reward=reward,
        scores=scores,
        step_labels=None if labels is None else torch.from_numpy(np.array(labels, np.float32)),
    )


def to_group(
    tokens: NDArray[np.int32],
    trainable: Bools,
    prompt_length: int,
    metadata: Mapping[str, object],
    weights: NDArray[np.float32] | None = None,
) -> Group:
    """The group of one sample: everything before the first learned token is the prompt."""
    after = slice(prompt_length, None)
    response = to_response(tokens[after], trainable[after], None if weights is None else weights[after])
    prompt = torch.from_numpy(tokens[:prompt_length].astype(np.int64))
    return Group(prompt=prompt, responses=(response,), metadata=metadata)


def _asked(texts: Sequence[str], core: Tokenizer) -> Iterator[_Written]:
    """Each text as the tokenizer says what its tokens write."""
    for encoded in core.encode_batch(texts, add_special_tokens=False):
        yield _Written(np.array(encoded.ids, np.int32), *_extents(encoded.offsets))


def _by_width(text: str, tokens: NDArray[np.int32], widths: Ints) -> _Written | None:
    """A text as tokens of known widths in bytes; None: they do not write exactly this text."""
    stops = np.cumsum(widths[tokens])
    size = len(text) if text.isascii() else len(data := np.frombuffer(text.encode(), np.uint8))
    if not len(tokens) or stops[-1] != size or not is_normalized("NFC", text):
        return None
    starts = np.concatenate([_ZERO, stops[:-1]])
    if size == len(text):
        return _Written(tokens, starts, stops, starts)
    owner = np.cumsum((data & 0xC0) != 0x80) - 1  # a token that writes some bytes of a character writes it
    starts, stops = owner[starts], owner[stops - 1] + 1
    return _Written(tokens, starts, stops, np.concatenate([_ZERO, stops[:-1]]))


def _writing(starts: Ints, stops: Ints, span: tuple[int, int]) -> Ints:
    """Indices of the tokens that write a character of the span."""
    start, stop = span
    return np.flatnonzero((starts < stop) & (stops > start)) if start < stop else np.empty(0, np.int64)


def _wanted(starts: Ints, stops: Ints, skipped: Sequence[tuple[int, int]]) -> Bools:
    """Whether tokens write any character outside the skipped parts."""
    wanted = np.ones(len(starts), np.bool_)
    for start, stop in skipped:
        wanted &= ~((start <= starts) & (stops <= stop))
    return wanted


def _labels(rendering: Rendering, written: _Written) -> NDArray[np.float32] | DataError:
    """[T] the label of each step at the last token that writes its last character."""
    labels = np.full(len(written.tokens), np.nan, np.float32)
    for place, label in rendering.labels:
        at = _writing(written.starts, written.stops, (place, place + 1))[-1]
        if not np.isnan(labels[at]):
            return DataError(
                given=f"two steps end in one token, before {rendering.text[place + 1 :][:40]!r}",
                rule="a step is judged at its last token, which it shares with no other",
                remedy="join the two steps, or delete the row",
            )
        labels[at] = label
    return labels


def _nothing_learned(rendering: Rendering) -> DataError:
    return DataError(
        given=f"no token is left to learn in {rendering.text[-60:]!r}",
        rule="a row has at least one token to learn, after something that predicts it",
        remedy="give the row an answer, or delete it",
    )


def _learned(trainable: Bools) -> Ints:
    """Indices of the learned tokens. The first token of a text is never one: nothing predicts it."""
    trainable[:1] = False
    return np.flatnonzero(trainable)


_TAIL = 32
"""Tokens at the end of a span among which its end token is sought."""


def _end_of_turn(
    tokens: Iterable[int], texts: Iterable[str], eos: int | None, markers: frozenset[int]
) -> tuple[int, int | None]:
    """How many tokens of a span follow its end token, and that token; both are given from the span's end on.

    Only added tokens and white space may stand after the end token: so a marker in the middle of an answer, such as
    one that closes its thinking, ends nothing. Among those, the tokenizer's own end token wins, then the last marker.
    """
    found: tuple[int, int | None] = (0, None)
    for after, (token, text) in enumerate(zip(tokens, texts, strict=True)):
        if token == eos:
            return after, token
        if text.isspace():
            continue
        if token not in markers:
            break
        if found[1] is None:
            found = (after, token)
    return found


def _extents(offsets: Sequence[tuple[int, int]]) -> tuple[Ints, Ints, Ints]:
    """[T] each: the characters [start, stop) that a token writes, at least one, and how far the earlier tokens reach.

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
