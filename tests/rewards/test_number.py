"""Numbers are read exactly, however they are written."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.rewards.mathematics import is_correct
from burnish.rewards.number import literal

WRITTEN: dict[str, Fraction | None] = {
    "1,000": Fraction(1000),
    "10 000": Fraction(10000),
    r"11,\! 111,\! 111,\! 100": Fraction(11111111100),
    r"\$32,\!348": Fraction(32348),
    "-$5": Fraction(-5),
    "$-5": Fraction(-5),
    "−5": Fraction(-5),
    ".5": Fraction(1, 2),
    "18.": Fraction(18),
    "1/2": Fraction(1, 2),
    r"\frac12": Fraction(1, 2),
    r"-\dfrac{35}{9}": Fraction(-35, 9),
    r"1\frac{4}{5}": Fraction(9, 5),
    "137 1/2": Fraction(275, 2),
    r"90^\circ": Fraction(90),
    r"\frac{270}7\text{ degrees}": Fraction(270, 7),
    r"864 \mbox{ inches}^2": Fraction(864),
    r"5.4 \text{ cents}": Fraction(27, 5),
    "25%": Fraction(25),
    r"1.5 \times 10^{3}": Fraction(1500),
    "1.5e-3": Fraction(3, 2000),
    "18 dollars per hour": Fraction(18),
    "**18**": Fraction(18),
    "$18$": Fraction(18),
    "18 or 19": None,
    "18 is wrong": None,
    "2+3": None,
    "5!": None,
    "2^10": None,
    "1,2": None,
    "1, 2": None,
    "1 2": None,
    "1.2.3": None,
    "52_8": None,
    "3x": None,
    "12ab": None,
    r"3\sqrt{2}": None,
    "1/0": None,
    "1e999999999": None,
    "": None,
    "-": None,
    "$": None,
    "٤٢": None,
}


@pytest.mark.parametrize("text", WRITTEN)
def test_reads(text: str) -> None:
    assert literal(text) == WRITTEN[text]


@given(st.integers(-(10**30), 10**30))
def test_ways_to_write_an_integer_are_the_same(number: int) -> None:
    sign = "-" if number < 0 else ""
    ways = [
        f"{number}",
        f"{number:,}",
        f"{number}.0",
        f"{number}.",
        f"{number}.000",
        f"{sign}${abs(number):,}",
        f"${number}$",
        f"{number:,} dollars",
        f"\\text{{{number}}}",
        f"{number}/1",
        f"\\frac{{{2 * number}}}{{2}}",
        f"{number}\\%",
    ]
    assert [literal(way) for way in ways] == [number] * len(ways)
    assert all(is_correct(one, other) for one in ways[:4] for other in ways)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12, min_value=-(10**12), max_value=10**12))
def test_decimals_are_exact(number: Decimal) -> None:
    assert literal(f"{number:f}") == Fraction(number)


@given(st.fractions(max_denominator=10**6), st.fractions(max_denominator=10**6))
def test_two_numbers_are_the_same_only_if_they_are(one: Fraction, other: Fraction) -> None:
    assert is_correct(str(one), str(other)) == (one == other)
    assert is_correct(str(one), str(one))


@given(st.text(max_size=30))
def test_any_text_is_a_number_or_none(text: str) -> None:
    number = literal(text)
    assert number is None or any(map(str.isdigit, text))
