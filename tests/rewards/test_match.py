"""Right and wrong answers, by hand and by law."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.rewards.match import last_number, matches, normalized


@pytest.mark.parametrize(
    ("answer", "reference", "exact", "contains", "number"),
    [
        ("4", "4", True, True, True),
        ("  4\n", "4", True, True, True),
        ("two  words", "two words", True, True, False),
        ("Two words", "two words", False, False, False),
        ("It is 4.", "4", False, True, True),
        ("It is 4. Or 5", "4", False, True, False),
        ("So 18 - 4 = 14 dollars", "9 * 2 = 18; 18 - 4 = 14\n#### 14", False, False, True),
        ("$1,200.00", "#### 1200", False, False, True),
        ("-3", "3", False, True, False),
        ("17 - 10 = 77", "7", False, False, False),
        ("cats", "cat", False, False, False),
        ("none", "3", False, False, False),
        ("", "", True, False, False),
    ],
)
def test_by_hand(answer, reference, exact, contains, number):
    found = [matches(answer, reference, rule) for rule in ("exact", "contains", "number")]
    assert found == [exact, contains, number]


@pytest.mark.parametrize(
    ("text", "number"),
    [("3.50", "3.5"), ("10-4", "4"), ("x = .5", "0.5"), ("12,345,678.9!", "12345678.9"), ("1. 2.", "2")],
)
def test_last_number(text, number):
    assert last_number(text) == Decimal(number)


def test_a_digit_in_a_name_is_no_number():
    assert last_number("block b2") is None


@given(st.text())
def test_a_text_is_its_own_answer(text):
    assert matches(text, text, "exact")
    assert matches(text, text, "contains") == bool(text.split())
    assert matches(text, text, "number") == (last_number(text) is not None)
    assert normalized(normalized(text)) == normalized(text)


@given(st.text(), st.text())
def test_exact_is_the_strictest(answer, reference):
    if matches(answer, reference, "exact") and reference.split():
        assert matches(answer, reference, "contains")
