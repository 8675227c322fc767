"""Responses as text: whole, and in pieces that are told while they are written."""

from __future__ import annotations

import pytest
import torch

from burnish.builtin.tiny import make_model, make_tokenizer
from burnish.evaluate.detokenize import Detokenizer, detokenize, stream_text
from burnish.sampling.base import SampleRequest
from burnish.sampling.params import SamplingParams
from burnish.sampling.plain import PlainSampler
from tests.conftest import make_response

TOKENIZER = make_tokenizer()


@pytest.mark.parametrize(
    "params",
    [SamplingParams(40, temperature=0.0), SamplingParams(40, temperature=2.0, seed=3)],
    ids=["greedy", "drawn"],
)
def test_streamed_pieces_are_the_text(params):
    sampler = PlainSampler(make_model(1, hidden_size=32, layers=1).eval(), TOKENIZER, [2], 512)
    prompt = TOKENIZER.encode("こんにちは there")
    pieces: list[str] = []
    streamed = stream_text(sampler, TOKENIZER, prompt, params, pieces.append)
    [group] = sampler.sample([SampleRequest(torch.tensor(prompt), 0)], 1, params)
    assert streamed.tokens.equal(group.responses[0].tokens)
    assert "".join(pieces) == detokenize(TOKENIZER, streamed, [2])
    assert len(pieces) > 1


@pytest.mark.parametrize("name", ["bytes", "sentencepiece"])
def test_characters_are_told_when_they_are_whole(name, llama_style):
    """Also by tokenizers that drop the first space of what they decode."""
    tokenizer, end = (TOKENIZER, 256) if name == "bytes" else (llama_style, 2)
    pieces: list[str] = []
    told = Detokenizer(tokenizer, pieces.append, [end])
    for token in [*tokenizer.encode("aé日本🙂 z  the x", add_special_tokens=False), end]:
        told.token(0, 0, token)
    told.end()
    assert "".join(pieces) == "aé日本🙂 z  the x"
    assert [piece for piece in pieces if piece.strip()][:5] == ["a", "é", "日", "本", "🙂"]


def test_what_never_becomes_a_character_is_told_in_the_end():
    pieces: list[str] = []
    told = Detokenizer(TOKENIZER, pieces.append, [256])
    for token in TOKENIZER.encode("b日")[:-1]:
        told.token(0, 0, token)
    assert pieces == ["b"]
    told.end()
    assert pieces == ["b", "\ufffd"]


def test_ends_are_not_in_the_text():
    response = make_response(9, torch.Generator().manual_seed(0))
    whole = TOKENIZER.decode(response.tokens.tolist(), skip_special_tokens=True)
    assert detokenize(TOKENIZER, response, []) == whole
    last = int(response.tokens[-1])
    assert detokenize(TOKENIZER, response, [last]) == TOKENIZER.decode(response.tokens.tolist()[:-1])
