"""The little world is the same every time, and its answers are right."""

from __future__ import annotations

import re

import torch

from burnish.builtin import generate
from burnish.builtin.tiny import make_model, make_tokenizer


def test_the_same_seed_gives_the_same_rows():
    assert generate(3, 200) == generate(3, 200)
    assert generate(3, 200) != generate(4, 200)
    assert generate(3, 200)[:50] == generate(3, 50)


def test_answers_are_right_and_facts_agree_between_seeds():
    facts: dict[str, str] = {}
    kinds = set()
    for row in generate(1, 600) + generate(2, 600):
        if sums := re.match(r"What is (\d+) plus (\d+)\?", row["question"]):
            kinds.add("sum")
            assert row["answer"].endswith(f" is {int(sums[1]) + int(sums[2])}.")
        elif word := re.match(r"Spell (\w+) backwards\.", row["question"]):
            kinds.add("reversal")
            assert row["answer"] == word[1][::-1] + "."
        else:
            kinds.add("fact")
            assert facts.setdefault(row["question"], row["answer"]) == row["answer"]
    assert kinds == {"sum", "reversal", "fact"}


def test_the_tokenizer_loses_nothing_and_the_model_is_reproducible():
    tokenizer = make_tokenizer()
    text = "Ada's kite — 漢字 🪁\n\ttab <|end|>"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    state = torch.get_rng_state()
    first, second = make_model(5).state_dict(), make_model(5).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)
