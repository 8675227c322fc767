"""Tokenization of rendered text, with the loss mask of its tokens.

Stands between `rendering` and `sample_builder`. A text is tokenized once, as a whole, and nothing is added: the model
sees what the template wrote, and there is never a second begin token. A token is learned if it writes a character of a
span. The token that ends a turn is learned; text that a template puts after it (a newline, say) is not, since the model
never has to sample it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from burnish.data.encoding import (
    Bools,
    Encoding,
    Ints,
    encode_by_width,
    encode_with_offsets,
    outside,
    token_widths,
    tokens_of_span,
)
from burnish.data.formats.fields import half_surrogate
from burnish.data.rendering import Rendering
from burnish.data.special_token_text import AliasTokenizer
from burnish.data.token_cache import TokenCache, can_be_split
from burnish.errors import DataError, ModelError
from burnish.types import MediaRef, Response


@dataclass(frozen=True, eq=False, slots=True)
class Sample:
    """A tokenized rendering, up to its last learned token.

    Example, prompt [9, 4] and response [5, 2]: ``Sample(tokens=array([9, 4, 5, 2]), prompt_length=2, ends=(2,),
    trainable=array([False, False, True, True]), num_unended=0, num_straddling=0)``.
    """

    tokens: NDArray[np.int32]
    """[T] token ids, T >= 2; T >= 1 in a prompt."""
    trainable: Bools
    """[T]; the last is True, the first is False: nothing predicts it. All are False in a prompt."""
    prompt_length: int
    """Tokens before the first learned one, at least 1."""
    ends: tuple[int, ...]
    """The last learned token of each turn that has an end token."""
    num_unended: int
    """Turns without an end token: they do not teach the model to stop."""
    num_straddling: int
    """Turns whose first token also writes the end of what precedes them (two newlines as one token, say): serving,
    which tokenizes the prompt alone, never lets the model choose that token."""
    num_ordinary: int = 0
    """Control strings of the row that were read as ordinary text."""
    shortened: bool = False
    """Whether the conversation lost its earliest turns."""
    document: bool = False
    """Whether it is plain text, which may be cut into pieces."""
    weights: NDArray[np.float32] | None = None
    """[T] weight of each learned token in the loss, > 0; None: 1 everywhere."""
    response_index: int = 0
    """Index among the responses to one prompt, or among the samples of a conversation that a template makes several of;
    0: the first, or the only one."""
    text_index: int = 0
    """Index among the texts of a response that is several; 0: the first, or the only one."""
    shared: int = 0
    """Tokens that it has in common with the sample before it; 0: it is the first of its prompt."""
    reward: float | None = None
    """Reward of the response from the data; None: it has none."""
    scores: tuple[float, ...] | None = None
    """K scores of the response; None: it has none."""
    step_labels: NDArray[np.float32] | None = None
    """[T] label of the step that ends at a token; NaN: no step ends there. None: the response has no labelled steps."""
    media: tuple[MediaRef, ...] = ()
    """Images, in order."""


class Encoder:
    """Tokenizes renderings into samples. Caches what it derives from the tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, of_prompts: bool = False) -> None:
        """Args:
            tokenizer: a fast one.
            of_prompts: True: renderings are prompts, of which nothing is learned; one token is enough.

        Raises:
            ModelError: the tokenizer is a slow one, which has no character offsets.
        """
        if not tokenizer.is_fast:
            raise ModelError(
                given=f"the tokenizer {type(tokenizer).__name__} is a slow one",
                rule="the tokenizer must give character offsets of its tokens, as fast ones (tokenizer.json) do",
                remedy="convert the tokenizer with transformers, or use a model with a tokenizer.json",
            )
        self._of_prompts = of_prompts
        self._tokenizer: Tokenizer = tokenizer.backend_tokenizer
        self._end: int | None = tokenizer.eos_token_id
        self._markers = frozenset(tokenizer.added_tokens_decoder)

    @cached_property
    def _alias_tokenizer(self) -> AliasTokenizer:
        return AliasTokenizer(self._tokenizer)

    def samples(self, renderings: Sequence[Rendering]) -> list[Sample | DataError]:
        """Returns a sample for each rendering, or the error that says why there is none."""
        samples: list[Sample | DataError | None] = [not_encodable(rendering.text) for rendering in renderings]
        plain = [i for i, rendering in enumerate(renderings) if not rendering.ordinary and samples[i] is None]
        # transformers calls the same, and then builds lists of masks and types that are not used here.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = False
        for i, encoding in zip(plain, self._encodings([_beginning(renderings[i]) for i in plain]), strict=True):
            samples[i] = _too_long(renderings[i], encoding)
            if samples[i] is None:
                whole = next(self._encodings([renderings[i].text])) if _is_cut(renderings[i]) else encoding
                samples[i] = self._sample(renderings[i], whole)
        for i, rendering in enumerate(renderings):
            if rendering.ordinary and samples[i] is None:
                samples[i] = self._sample_with_ordinary_text(rendering)
        return [sample for sample in samples if sample is not None]

    def _sample_with_ordinary_text(self, rendering: Rendering) -> Sample | DataError:
        for text in dict.fromkeys((_beginning(rendering), rendering.text)):
            try:
                with_aliases = self._alias_tokenizer.with_aliases(text, rendering.ordinary)
            except DataError as error:
                return error
            (encoding,) = encode_with_offsets([with_aliases], self._alias_tokenizer.core)
            if (sample := _too_long(rendering, encoding)) is not None:
                return sample
        return self._sample(rendering, encoding)

    def _encodings(self, texts: Sequence[str]) -> Iterator[Encoding]:
        """Tokenizes texts with the characters that each token writes."""
        widths = self._widths
        if widths is None:
            yield from encode_with_offsets(texts, self._tokenizer)
            return
        for text, tokens in zip(texts, self._tokens(texts), strict=True):
            encoding = encode_by_width(text, tokens, widths)
            yield from encode_with_offsets([text], self._tokenizer) if encoding is None else (encoding,)

    def _tokens(self, texts: Sequence[str]) -> Iterator[NDArray[np.int32]]:
        if self._piece_cache is not None:
            return self._piece_cache.tokens(texts)
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return (np.array(encoding.ids, np.int32) for encoding in encodings)

    @cached_property
    def _piece_cache(self) -> TokenCache | None:
        return TokenCache(self._tokenizer) if can_be_split(self._tokenizer) else None

    @cached_property
    def _widths(self) -> Ints | None:
        """See `token_widths`."""
        return token_widths(self._tokenizer)

    def _sample(self, rendering: Rendering, encoding: Encoding) -> Sample | DataError:
        if self._of_prompts:
            return _prompt(rendering, encoding)
        tokens, starts, stops, reached = encoding.tokens, encoding.starts, encoding.stops, encoding.reached
        trainable = np.full(len(tokens), rendering.everything)
        ends: list[int] = []
        weights = None if set(rendering.weights) <= {1.0} else np.ones(len(tokens), np.float32)
        unended = straddling = 0
        for number, span in enumerate(rendering.spans):
            inside = tokens_of_span(starts, stops, span)
            tail = inside[: -_TAIL - 1 : -1]
            offsets = zip(starts[tail].tolist(), stops[tail].tolist(), strict=True)
            texts = (rendering.text[start:stop] for start, stop in offsets)
            cut, end = _end_of_turn(tokens[tail].tolist(), texts, self._end, self._markers)
            turn = inside[: len(inside) - cut]
            trainable[turn] = outside(starts[turn], stops[turn], rendering.skipped) if rendering.skipped else True
            if end is None:
                unended += 1
            else:
                ends.append(end)
                trainable[turn[-1]] = True
            if weights is not None:
                weights[inside] = rendering.weights[number]
            straddling += len(inside) > 0 and bool(min(starts[inside[0]], reached[inside[0]]) < span[0])
        media = _media(rendering, tokens)
        for medium in media:
            trainable[slice(*medium.span)] = False
        learned = _learned(trainable)
        if len(learned) == 0:
            return _nothing_learned(rendering)
        step_labels = _step_labels(rendering, encoding) if rendering.step_labels else None
        if isinstance(step_labels, DataError):
            return step_labels
        size = int(learned[-1]) + 1  # later tokens do not change what is learned
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
            step_labels=None if step_labels is None else step_labels[:size],
            media=tuple(medium for medium in media if medium.span[1] <= size),
        )


def tokenize(renderings: Sequence[Rendering], tokenizer: PreTrainedTokenizerBase) -> list[Sample | DataError]:
    """Returns a sample for each rendering, or the error that says why there is none."""
    return Encoder(tokenizer).samples(renderings)


def tokenize_prompts(renderings: Sequence[Rendering], tokenizer: PreTrainedTokenizerBase) -> list[Sample | DataError]:
    """Returns a sample for each rendering of a prompt, with all its tokens; the error where it has none."""
    return Encoder(tokenizer, of_prompts=True).samples(renderings)


def to_response(
    tokens: NDArray[np.int32],
    trainable: Bools,
    weights: NDArray[np.float32] | None = None,
    reward: float | None = None,
    scores: tuple[float, ...] | None = None,
    labels: NDArray[np.float32] | None = None,
) -> Response:
    """Response with its loss mask from the arrays of a sample after its prompt."""
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


def _step_labels(rendering: Rendering, encoding: Encoding) -> NDArray[np.float32] | DataError:
    """[T] label of each step, at the last token that writes the step's last character; NaN elsewhere."""
    labels = np.full(len(encoding.tokens), np.nan, np.float32)
    for end, label in rendering.step_labels:
        at = tokens_of_span(encoding.starts, encoding.stops, (end, end + 1))[-1]
        if not np.isnan(labels[at]):
            return DataError(
                given=f"two steps end in one token, before {rendering.text[end + 1 :][:40]!r}",
                rule="a step has its label at its last token, which it shares with no other step",
                remedy="join the two steps, or delete the row",
            )
        labels[at] = label
    return labels


def _prompt(rendering: Rendering, encoding: Encoding) -> Sample | DataError:
    """Sample of a prompt: nothing is learned."""
    tokens = encoding.tokens
    if not len(tokens):
        return DataError("the prompt is empty", "a response continues something", "give the row a prompt")
    nothing = np.zeros(len(tokens), np.bool_)
    return Sample(
        tokens,
        nothing,
        len(tokens),
        ends=(),
        num_unended=0,
        num_straddling=0,
        num_ordinary=len(rendering.ordinary),
        media=_media(rendering, tokens),
    )


def _media(rendering: Rendering, tokens: NDArray[np.int32]) -> tuple[MediaRef, ...]:
    """References to the images among the tokens, with their spans; those behind the last token are left out."""
    if not rendering.images:
        return ()
    at = np.flatnonzero(tokens == rendering.images[0].token)
    found, first = [], 0
    for image in rendering.images:
        own = at[first : first + image.num_tokens]
        if len(own) < image.num_tokens:
            break
        span = (int(own[0]), int(own[-1]) + 1)
        found.append(MediaRef("image", image.path, span, image.digest, image.num_patches))
        first += image.num_tokens
    return tuple(found)


_CHARACTERS_PER_TOKEN = 8
"""Characters that are tokenized first of a rendering with a limit, for each token of the limit."""
_BORDER = 64
"""Tokens at the end of a cut text that may not be those of the whole text."""


def _beginning(rendering: Rendering) -> str:
    """The text, or as much of it as shows that a rendering with a limit is longer."""
    limit = rendering.max_tokens
    return rendering.text if limit is None else rendering.text[: _CHARACTERS_PER_TOKEN * (limit + _BORDER)]


def _is_cut(rendering: Rendering) -> bool:
    return len(_beginning(rendering)) < len(rendering.text)


def _too_long(rendering: Rendering, encoding: Encoding) -> Sample | None:
    """Sample of a rendering longer than its limit: one token more than the limit, of which the last stands for what is
    learned. No setting allows it, so all that counts is that it is longer. None: it has no limit, or is within it."""
    limit = rendering.max_tokens
    border = _BORDER if _is_cut(rendering) else 0
    if limit is None or len(encoding.tokens) <= limit + border:
        return None
    trainable = np.zeros(limit + 1, np.bool_)
    trainable[-1] = True
    return Sample(encoding.tokens[: limit + 1], trainable, limit, ends=(), num_unended=0, num_straddling=0)


def not_encodable(text: str) -> DataError | None:
    """Error of a text with half of a surrogate pair, which no tokenizer takes; None: it has none."""
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return half_surrogate(error)
    return None


def _nothing_learned(rendering: Rendering) -> DataError:
    return DataError(
        given=f"no token is left to learn in {rendering.text[-60:]!r}",
        rule="a row has at least one token to learn, after something that predicts it",
        remedy="give the row an answer, or delete it",
    )


def _learned(trainable: Bools) -> Ints:
    """Indices of the learned tokens. The first token of a text is never learned: nothing predicts it."""
    trainable[:1] = False
    return np.flatnonzero(trainable)


_TAIL = 32
"""Tokens at the end of a span among which its end token is sought."""


def _end_of_turn(
    tokens: Iterable[int], texts: Iterable[str], eos: int | None, markers: frozenset[int]
) -> tuple[int, int | None]:
    """Number of tokens of a span after its end token, and that token. Tokens and texts come in reverse order.

    Only added tokens and white space may stand after the end token, so a marker in the middle of an answer (one
    that closes its reasoning, say) is no end token. The tokenizer's own end token wins, then the last marker.
    """
    marker: tuple[int, int | None] = (0, None)
    for after, (token, text) in enumerate(zip(tokens, texts, strict=True)):
        if token == eos:
            return after, token
        if text.isspace():
            continue
        if token not in markers:
            break
        if marker[1] is None:
            marker = (after, token)
    return marker
