"""What is said of an answer: clauses, corrections, contrasts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.rewards.assertion import clause_before, corrected, retraction, stance, stance_beside, without_contrast

BESIDE = {
    ("It is ", "."): "asserted",
    ("6 is wrong, so it is ", "."): "asserted",
    ("It is not hard to see that it is ", "."): "asserted",
    ("It is not ", "."): "denied",
    ("I do not believe that it is ", "."): "denied",
    ("We can rule out ", "."): "denied",
    ("", " is wrong."): "denied",
    ("", " can be ruled out."): "denied",
    ("", " is not far from it"): "denied",
    ("Perhaps it is ", "."): "hedged",
    ("If it is ", ", then"): "hedged",
    ("It is at least ", "."): "hedged",
    ("Is it ", "?"): "hedged",
    ("Why? It is ", ". Is it?"): "asserted",
}


@pytest.mark.parametrize("beside", BESIDE)
def test_an_answer_between_two_texts(beside: tuple[str, str]) -> None:
    assert stance_beside(*beside) == BESIDE[beside]


@pytest.mark.parametrize(
    ("sentence", "said"),
    [("5", "5"), ("6, no, 5", "5"), ("6, no wait, it is 5", "5"), ("7 - no, 6, sorry, 5", "5"), ("no", "no")],
)
def test_the_last_correction_counts(sentence: str, said: str) -> None:
    assert corrected(sentence) == said


@pytest.mark.parametrize("sentence", ["5", "5, not 6", "not 6 but 5", "not 6, but 5", "5 rather than 6"])
def test_what_is_excluded_is_left_out(sentence: str) -> None:
    assert without_contrast(sentence) == "5"


def test_a_single_word_is_an_answer() -> None:
    assert [stance(text) for text in ("no", "not 5", "5 or 6", "5")] == ["asserted", "denied", "hedged", "asserted"]


def test_a_retraction_begins_the_next_sentence() -> None:
    assert retraction(" No, 6.") == ", 6."
    assert retraction("No doubt about it.") is None
    assert retraction("It is so. No, 6.") is None


@given(st.text(max_size=300))
def test_a_clause_is_the_end_of_its_text(text: str) -> None:
    assert text.endswith(clause_before(text))
