"""Every rule that ends a response."""

import pytest

from burnish.model.load import load_tokenizer
from burnish.sampling.stopping import StopRules


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("builtin:tiny")


def rules(tokenizer=None, *, ids=(), texts=(), most=100) -> StopRules:
    return StopRules.of([2], ids, texts, most, tokenizer)


def test_end_tokens_and_further_ones_end():
    assert rules().finish([5, 2], 100) == "end"
    assert rules(ids=[7]).finish([5, 7], 100) == "end"
    assert rules(ids=[7]).finish([7, 5], 100) is None


def test_the_limit_is_the_smaller_of_the_two():
    assert rules(most=3).finish([5, 5, 5], 100) == "length"
    assert rules(most=3).finish([5, 5], 100) is None
    assert rules(most=100).finish([5, 5], 2) == "length"


def test_an_end_token_in_the_last_place_is_an_end():
    assert rules(most=2).finish([5, 2], 2) == "end"


@pytest.mark.parametrize("text", ["Stop", " and then", "\n\n", "ü", "42", "x"])
def test_a_text_ends_the_response_with_the_token_that_completes_it(tokenizer, text):
    tokens = tokenizer(f"It goes on{text} and on and on", add_special_tokens=False).input_ids
    stop_rules = rules(tokenizer, texts=("never said", text))
    ends = [stop_rules.finish(tokens[: k + 1], 100) for k in range(len(tokens))]
    first = next(k for k in range(len(tokens)) if text in tokenizer.decode(tokens[: k + 1]))
    assert ends[first] == "end"
    assert set(ends[:first]) <= {None}


def test_a_text_of_the_prompt_does_not_count(tokenizer):
    tokens = tokenizer("B", add_special_tokens=False).input_ids
    assert rules(tokenizer, texts=("AB",)).finish(tokens, 100) is None
