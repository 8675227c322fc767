"""Inputs near those of tests: same types, and what the inputs of the tests have in common."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from burnish.grading.code_audit.inputs import Traits, calls_near, texts_near, varied
from burnish.sandbox.tests import CallTest

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False, width=32),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
        | st.sets(st.integers(), max_size=3)
    ),
    max_leaves=6,
)


@given(PLAIN, st.integers(0, 20))
def test_types_stay_and_the_value_is_not_changed(value: Any, seed: int) -> None:
    before = repr(value)
    new = varied(value, Traits.of([value]), random.Random(seed))
    assert type(new) is type(value)
    assert repr(value) == before


@given(
    st.lists(st.tuples(st.lists(st.integers(1, 30), min_size=2, max_size=5), st.integers(0, 9)), min_size=2, max_size=4)
)
def test_signs_stay_and_numbers_of_calls_are_few(arguments: list[tuple[list[int], int]]) -> None:
    calls = [CallTest("f", entry) for entry in arguments]
    new = calls_near(calls, 20, random.Random(0))
    assert len(new) <= 20
    assert len({repr(call) for call in new}) == len(new)
    assert new == calls_near(calls, 20, random.Random(0))
    for call in new:
        numbers, k = call.arguments
        assert numbers
        assert min(numbers) >= 1
        assert k >= 0


def test_what_all_inputs_have_in_common_stays() -> None:
    """Sorted lists without repetition, a length that is given, texts of one alphabet, an index below the length."""
    calls = [
        CallTest("f", ([1, 4, 9], 3, "abba", 1)),
        CallTest("f", ([2, 5], 2, "bab", 0)),
        CallTest("f", ([3, 4, 5, 8], 4, "a", 3)),
    ]
    new = calls_near(calls, 60, random.Random(1))
    assert len(new) > 20
    for call in new:
        numbers, size, text, index = call.arguments
        assert numbers == sorted(set(numbers))
        assert size == len(numbers)
        assert set(text) <= {"a", "b"}
        assert text
        assert 0 <= index < len(numbers)


def test_arguments_by_name_are_varied() -> None:
    new = calls_near([CallTest("f", (1,), {"k": 2}), CallTest("f", (1,), {"k": 5})], 12, random.Random(0))
    assert len({call.keywords["k"] for call in new}) > 2


def test_without_calls_there_are_no_inputs() -> None:
    assert calls_near([], 5, random.Random(0)) == []
    assert texts_near([], 5, random.Random(0)) == []
    assert calls_near([CallTest("f")], 5, random.Random(0)) == [CallTest("f")]


def test_texts_keep_their_first_line_and_their_number_of_words() -> None:
    texts = ["3\n1 2 3\n", "2\n10 20\nab cd\n"]
    new = texts_near(texts, 30, random.Random(0))
    assert len(new) > 10
    for text in new:
        source = next(source for source in texts if text.startswith(source.split("\n")[0]))
        assert len(text.split()) == len(source.split())
        assert text.count("\n") == source.count("\n")
