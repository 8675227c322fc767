"""Detokenization of responses: readable text, whole or streamed, and the text that rewards see."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from transformers import PreTrainedTokenizerBase

from burnish.rewards.normalize import THOUGHT_TAGS
from burnish.rewards.response_views import Decode, decoded_after
from burnish.sampling.base import Sampler, SampleRequest, StreamListener
from burnish.sampling.params import SamplingParams
from burnish.types import MediaRef, Response

_UNFINISHED = "\ufffd"
"""Output of a decoder for an incomplete character."""


def detokenize(tokenizer: PreTrainedTokenizerBase, response: Response, ends: Collection[int]) -> str:
    """Readable text of a response, without control tokens and the end token."""
    tokens = response.tokens.tolist()
    content = tokens[:-1] if tokens[-1] in ends else tokens
    return str(tokenizer.decode(content, skip_special_tokens=True))


def whole_text(
    tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], response: Response, ends: Collection[int], prefix: str
) -> str:
    """Text of a response from its beginning, generation prefix included, without the end token and control tokens. Tags
    of thoughts stay, since the answer begins where the thought ends.

    Args:
        tokenizer: of the model.
        prompt: token ids before the response.
        response: the sampled response.
        ends: token ids that end a response.
        prefix: end of the prompt's text that belongs to the response; "": none.
    """
    text = decoded_after(prompt if prefix else [], response.tokens.tolist(), response_decoder(tokenizer, ends))
    tags = "".join(opening + closing for opening, closing in THOUGHT_TAGS)
    hidden = [token for token in tokenizer.all_special_tokens if token not in tags]
    for token in sorted(hidden, key=len, reverse=True):
        text = text.replace(token, "")
    return prefix + text


def response_decoder(tokenizer: PreTrainedTokenizerBase, ends: Collection[int]) -> Decode:
    """Decoder of the text that rewards see: all tokens but the end token. Control tokens inside are decoded too, since
    the policy wrote them."""

    def decode(tokens: Sequence[int]) -> str:
        content = tokens[:-1] if tokens and tokens[-1] in ends else tokens
        return str(tokenizer.decode(list(content), skip_special_tokens=False))

    return decode


def stream_text(
    sampler: Sampler,
    tokenizer: PreTrainedTokenizerBase,
    prompt: Sequence[int],
    params: SamplingParams,
    on_text: Callable[[str], None],
    media: tuple[MediaRef, ...] = (),
) -> Response:
    """Samples a response to one prompt and streams its text to `on_text`. The caller catches Ctrl+C.

    The joined pieces equal `detokenize` of the response.

    Raises:
        ModelError: the prompt is empty, or fills all positions of the model.
    """
    listener = Detokenizer(tokenizer, on_text, sampler.end_tokens)
    request = SampleRequest(torch.tensor(prompt, dtype=torch.int64), 0, media)
    [group] = sampler.sample([request], 1, params, listener=listener)
    listener.end()
    return group.responses[0]


class Detokenizer(StreamListener):
    """Streams the text of one response as soon as its characters are complete.

    A token is decoded together with the previous piece: alone, many tokenizers drop the space before it.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, on_text: Callable[[str], None], end_tokens: Collection[int]
    ) -> None:
        self._tokenizer, self._on_text, self._ends = tokenizer, on_text, frozenset(end_tokens)
        self._tokens: list[int] = []
        self._start = self._sent = 0

    def token(self, place: int, index: int, token: int) -> None:
        assert place == index == 0, "one response is streamed"
        if token not in self._ends:
            self._tokens.append(token)
            self._send(last=False)

    def end(self) -> None:
        """Sends the rest of the text at the end of the response."""
        self._send(last=True)

    def _send(self, *, last: bool) -> None:
        before, now = self._text(self._start, self._sent), self._text(self._start, len(self._tokens))
        if len(now) > len(before) and (last or not now.endswith(_UNFINISHED)):
            self._start, self._sent = self._sent, len(self._tokens)
            self._on_text(now[len(before) :])

    def _text(self, start: int, stop: int) -> str:
        return str(self._tokenizer.decode(self._tokens[start:stop], skip_special_tokens=True))
