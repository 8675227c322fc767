"""Ids of pieces equal the ids of the text, for every pattern of tokenizers that are split."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from burnish.data import token_cache
from burnish.data.token_cache import TokenCache, can_be_split

PATTERNS = sorted(token_cache._PATTERNS)
CORPUS = ["It's a  word, and\n\n one more.", "1234 5 67   of 8\t\t9 it", "WE'LL do,it\r\n  so", "é 日本 x́ y\u3000z  a"]
texts = st.text("ab Z'sl19.,/\n\r\t\xa0\u3000é日\u0301😀", max_size=24) | st.text(max_size=20)
pieces = st.lists(
    texts
    | st.sampled_from(["<|end|>", "<b|>", "<|", "-^]", "|end|\u0338", " word", "  a", "\n b", "'s it", "\u2028 c"]),
    max_size=6,
)


def made(
    *steps: Any, normalizer: Any = None, added: Sequence[AddedToken | str] = ("<|end|>", "<|", "<b|>")
) -> Tokenizer:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(False, use_regex=False)])
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(CORPUS * 9, trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet))
    if normalizer is not None:
        core.normalizer = normalizer
    core.add_special_tokens(list(added))
    return core


def split(pattern: str, behavior: str = "isolated") -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(pattern), behavior)


later = AddedToken("|end|", normalized=True)
CUT = {
    **{f"pattern {index}": made(split(pattern)) for index, pattern in enumerate(PATTERNS)},
    "normal form C": made(split(PATTERNS[0]), normalizer=normalizers.NFC()),
    "no added tokens": made(split(PATTERNS[0]), added=()),
    "normalised added tokens": made(split(PATTERNS[0]), normalizer=normalizers.NFC(), added=("<|end|>", later)),
    "lines": made(split(PATTERNS[1]), added=("\n", "\n\n", "]", "-^")),
    "digits": made(pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)),
}


@pytest.mark.parametrize("name", CUT)
@settings(deadline=None, max_examples=150)
@given(parts=st.lists(pieces, min_size=1, max_size=3))
def test_ids_of_pieces_are_the_ids_of_the_text(name: str, parts: list[list[str]]) -> None:
    core, whole = CUT[name], ["".join(part) for part in parts]
    assert can_be_split(core)
    expected = [core.encode(text, add_special_tokens=False).ids for text in whole]
    cache = TokenCache(core)
    for _ in range(2):  # computed, then cached
        assert [tokens.tolist() for tokens in cache.tokens(whole)] == expected


def test_many_texts_and_a_small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    core = CUT["pattern 0"]
    monkeypatch.setattr(token_cache, "_BLOCK", 20)
    monkeypatch.setattr(token_cache, "_MAX_CACHED", 10)
    many = [f"word {number} and" * (number % 4) for number in range(40)]
    cache = TokenCache(core)
    assert [tokens.tolist() for tokens in cache.tokens(many)] == [core.encode(text).ids for text in many]
    assert len(cache._ids) < 20
    assert list(cache.tokens([])) == []


def changed(core: Tokenizer, **changes: object) -> Tokenizer:
    return Tokenizer.from_str(json.dumps({**json.loads(core.to_str()), **changes}))


def test_tokenizers_that_get_whole_texts() -> None:
    plain = CUT["pattern 0"]
    assert can_be_split(changed(plain))
    across = r"\w+ \w+|\s|\S"
    entry = json.loads(plain.to_str())["added_tokens"][0]
    for other in (
        made(split(across)),
        made(split(PATTERNS[0], "merged_with_next")),
        made(),
        made(split(PATTERNS[0]), pre_tokenizers.Metaspace()),
        made(split(PATTERNS[0]), normalizer=normalizers.NFKD()),
        changed(plain, added_tokens=[{**entry, "rstrip": True}]),
        changed(plain, added_tokens=[{**entry, "content": "<an end>"}]),
        changed(plain, added_tokens=[{**entry, "content": "end"}]),
        changed(plain, pre_tokenizer=None),
        Tokenizer(models.WordLevel({"a": 0}, "a")),
    ):
        assert not can_be_split(other)


def test_a_tokenizer_that_joins_words_is_not_that_of_its_pieces() -> None:
    """The reason for the list of patterns: this one splits differently at a split position."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = split(r"\w+ \w+|\s|\S")
    core.train_from_iterator(["to be or not to be"] * 9, trainers.BpeTrainer(vocab_size=60))
    (tokens,) = TokenCache(core).tokens(["to be"])
    assert tokens.tolist() != core.encode("to be").ids
