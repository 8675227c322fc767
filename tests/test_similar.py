"""Similar names: few edits, abbreviations, and silence where nothing is near."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.similar import edits, similar

WORDS = st.text("abcdef_", max_size=10)


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [("", "abc", 3), ("dop", "dpo", 1), ("lr", "rl", 1), ("maths", "math", 1), ("max-length", "MAX_LENGTH", 0)],
)
def test_edits_by_hand(one, other, count):
    assert edits(one, other) == count


@given(WORDS, WORDS)
def test_edits_are_symmetric_and_bounded(one, other):
    assert edits(one, other) == edits(other, one)
    assert abs(len(one) - len(other)) <= edits(one, other) <= max(len(one), len(other))
    assert (edits(one, other) == 0) == (one == other)


@given(WORDS, st.integers(0, 9), st.sampled_from("xyz"))
def test_an_inserted_character_is_one_edit(word, place, char):
    assert edits(word, word[:place] + char + word[place:]) == 1


@pytest.mark.parametrize(
    ("written", "names", "expected"),
    [
        ("learning_rat", ["learning_rate", "log_every"], ["learning_rate"]),
        ("max_len", ["max_length", "max_steps"], ["max_length"]),
        ("deepspeed", ["seed", "device"], []),
        ("zzz", ["dpo", "ipo"], []),
        ("a", ["b"], []),
        ("", ["a"], []),
    ],
)
def test_only_near_names_are_similar(written, names, expected):
    assert similar(written, names)[: len(expected) or None] == expected


@given(WORDS, st.lists(WORDS))
def test_similar_names_are_among_the_names(written, names):
    assert set(similar(written, names)) <= set(names)


@given(st.text("abcdef_", min_size=2, max_size=10), st.lists(WORDS))
def test_a_name_itself_comes_first(written, names):
    assert similar(written, [*names, written])[0] == written
