"""The untrained model: its tokenizer loses nothing, and its weights are those of the seed."""

from __future__ import annotations

import torch

from burnish.builtin.tiny import make_model, make_tokenizer


def test_the_tokenizer_loses_nothing_and_the_model_is_reproducible():
    tokenizer = make_tokenizer()
    text = "Ada's kite — 漢字 🪁\n\ttab <|end|>"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    state = torch.get_rng_state()
    first, second = make_model(5).state_dict(), make_model(5).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)
