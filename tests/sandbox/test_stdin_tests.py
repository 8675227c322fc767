"""Comparison of outputs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.sandbox.stdin_tests import same_output


@pytest.mark.parametrize(
    ("got", "expected", "same"),
    [
        ("1 2\n", "1 2", True),
        ("1 2  \r\n\n\n", "1 2\n", True),
        ("1  2", "1 2", True),
        ("1\n2", "1 2", False),
        (" 1", "1", True),
        ("0.3333333333", "0.333333333333", True),
        ("0.3334", "0.3333", False),
        ("3", "3.0", True),
        ("3.0", "3", False),
        ("12345678", "12345679", False),
        ("1e400", "1e401", False),
        ("nan", "0.5", False),
        ("yes", "YES", False),
        ("", "", True),
        ("", "1", False),
        ("a.b", "a.c", False),
    ],
)
def test_outputs(got: str, expected: str, same: bool) -> None:
    assert same_output(got, expected) is same


@given(st.text())
def test_every_output_is_its_own(text: str) -> None:
    assert same_output(text, text)
    assert same_output(text + "\n\n", text)


@given(st.lists(st.integers(), min_size=1), st.integers(0, 100))
def test_another_number_is_another_output(numbers: list[int], place: int) -> None:
    changed = list(numbers)
    changed[place % len(numbers)] += 1
    assert not same_output(" ".join(map(str, changed)), " ".join(map(str, numbers)))
