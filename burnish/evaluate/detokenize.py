"""Responses as text: for people, whole or in pieces, and for whoever judges them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from transformers import PreTrainedTokenizerBase

from burnish.sampling.base import Prompt, StreamListener
from burnish.sampling.open import InProcess
from burnish.sampling.params import SamplingParams
from burnish.tasks.response_views import Decode, decoded_after
from burnish.types import Response

_THOUGHT = ("<think>", "</think>")
_UNFINISHED = "\ufffd"
"""What a decoder writes for the first bytes of a character whose other bytes are not there yet."""


def detokenize(tokenizer: PreTrainedTokenizerBase, response: Response, ends: Collection[int]) -> str:
    """The response as people read it, without control tokens and what ended it."""
    tokens = response.tokens.tolist()
    kept = tokens[:-1] if tokens[-1] in ends else tokens
    return str(tokenizer.decode(kept, skip_special_tokens=True))


def whole_text(
    tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], response: Response, ends: Collection[int], prefix: str
) -> str:
    """The response from its beginning, also where that stands in the prompt, without control tokens but tags of
    thoughts and without what ended it: where a thought ends decides what the answer is.

    Args:
        tokenizer: of the model that wrote.
        prompt: token ids before the response.
        response: what was written.
        ends: token ids that end a response.
        prefix: the end of the prompt's text that belongs to the response; "": nothing does.
    """
    written = decoded_after(prompt if prefix else [], response.tokens.tolist(), response_decoder(tokenizer, ends))
    hidden = [token for token in tokenizer.all_special_tokens if token not in _THOUGHT]
    for token in sorted(hidden, key=len, reverse=True):
        written = written.replace(token, "")
    return prefix + written


def response_decoder(tokenizer: PreTrainedTokenizerBase, ends: Collection[int]) -> Decode:
    """Turns the tokens of a response into the text that rewards see: all of it but the token that ends it. Control
    tokens within it are shown, since the policy wrote them."""

    def decode(tokens: Sequence[int]) -> str:
        kept = tokens[:-1] if tokens and tokens[-1] in ends else tokens
        return str(tokenizer.decode(list(kept), skip_special_tokens=False))

    return decode


def stream_text(
    sampler: InProcess,
    tokenizer: PreTrainedTokenizerBase,
    prompt: Sequence[int],
    params: SamplingParams,
    told: Callable[[str], None],
) -> Response:
    """The response to one prompt, told in pieces of text while it is written. Ctrl+C is the caller's to catch.

    Joined, the pieces are `detokenize` the response.

    Raises:
        ModelError: the prompt is empty, or fills all positions of the model.
    """
    pieces = Detokenizer(tokenizer, told, sampler.end_tokens)
    asked = Prompt(torch.tensor(prompt, dtype=torch.int64), 0)
    [group] = sampler.sample([asked], 1, params, watcher=pieces)
    pieces.end()
    return group.responses[0]


class Detokenizer(StreamListener):
    """Tells the text of one response as soon as its characters are whole.

    A token is decoded with those of the piece before it: alone, many tokenizers would drop the space in front of it.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, told: Callable[[str], None], end_tokens: Collection[int]
    ) -> None:
        self._tokenizer, self._told, self._ends = tokenizer, told, frozenset(end_tokens)
        self._tokens: list[int] = []
        self._start = self._read = 0

    def token(self, place: int, index: int, token: int) -> None:
        assert place == index == 0, "one response is told"
        if token not in self._ends:
            self._tokens.append(token)
            self._tell(last=False)

    def end(self) -> None:
        """The response is over: what is left of it is told."""
        self._tell(last=True)

    def _tell(self, *, last: bool) -> None:
        before, now = self._text(self._start, self._read), self._text(self._start, len(self._tokens))
        if len(now) > len(before) and (last or not now.endswith(_UNFINISHED)):
            self._start, self._read = self._read, len(self._tokens)
            self._told(now[len(before) :])

    def _text(self, start: int, stop: int) -> str:
        return str(self._tokenizer.decode(self._tokens[start:stop], skip_special_tokens=True))
