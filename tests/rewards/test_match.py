"""Right and wrong answers, by hand and by law."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from burnish.rewards.extract import final_number
from burnish.rewards.match import matches
from burnish.rewards.normalize import THOUGHT_TAGS, in_thought, without_thoughts


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
    [("3.50", "7/2"), ("x = .5", "1/2"), ("12,345,678.9!", "123456789/10"), ("It is 7/4.", "7/4")],
)
def test_the_final_number(text, number):
    assert final_number(text) == Fraction(number)


@pytest.mark.parametrize(
    "text", ["block b2", "10-4", "(3,4)", "1990,2000", "10^{3}", "<think>4", "3 or 4", "2 of 3", ""]
)
def test_no_final_number(text):
    assert final_number(text) is None


@given(st.text())
def test_a_text_is_its_own_answer(text):
    assume(not in_thought(text))  # such a text has no answer
    assert matches(text, text, "exact")
    assert matches(text, text, "contains") == bool(without_thoughts(text).split())
    assert matches(text, text, "number") == (final_number(text) is not None)


@given(st.text(), st.text())
def test_exact_is_the_strictest(answer, reference):
    if matches(answer, reference, "exact") and reference.split():
        assert matches(answer, reference, "contains")


@given(st.sampled_from(["exact", "contains", "number"]), st.integers(0, 10**6))
def test_an_answer_in_a_thought_is_never_right(rule, number):
    for opened, closed in THOUGHT_TAGS:
        assert not matches(f"{opened}{number}", f"{number}", rule)
        assert not matches(f"{opened}{number}{closed}none", f"{number}", rule)
        assert matches(f"{opened}none{closed}{number}", f"{number}", rule)
        assert matches(f"{number}", f"{opened}none{closed}{number}", rule)
