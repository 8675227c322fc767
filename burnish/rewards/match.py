"""Compares an answer with a reference by a named rule. Pure; used by `evaluate.accuracy`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Literal

MatchRule = Literal["exact", "contains", "number"]
"""exact: the same text. contains: the answer contains the reference as whole words. number: the last numbers of both
are equal, whatever the rest. In both texts white space at the ends is removed and inside is one space; case matters."""

_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?|(?<![\w.])-?\.\d+")


def matches(answer: str, reference: str, rule: MatchRule) -> bool:
    """Whether an answer agrees with the reference. Example: ``matches("So it is 1,200.", "#### 1200", "number")``."""
    if rule == "number":
        number = last_number(reference)
        return number is not None and last_number(answer) == number
    text, expected = normalized(answer), normalized(reference)
    return text == expected if rule == "exact" else bool(expected) and _contains(text, expected)


def _contains(text: str, words: str) -> bool:
    """Whether a text contains words as whole words: 17 does not contain 7."""
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text) is not None


def normalized(text: str) -> str:
    """Text without white space at the ends, and with single spaces inside."""
    return " ".join(text.split())


def last_number(text: str) -> Decimal | None:
    """Last number in a text, without commas between digits; None: there is none.

    Example: ``last_number("3 boxes of 12 are 36.0 eggs") == Decimal(36)``.
    """
    numbers = _NUMBER.findall(text)
    return Decimal(numbers[-1].replace(",", "")) if numbers else None
