"""Is an answer right? Text against text, by rules that are named; a pure part of `accuracy`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Literal

MatchRule = Literal["exact", "contains", "number"]
"""exact: the same text. contains: the reference stands somewhere in the answer. number: the last number of both is the
same, whatever else is said. Of both texts, white space at the ends is cut and inside is one space; case matters."""

_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?|(?<![\w.])-?\.\d+")


def matches(answer: str, reference: str, rule: MatchRule) -> bool:
    """Whether an answer agrees with the reference. Example: ``matches("So it is 1,200.", "#### 1200", "number")``."""
    if rule == "number":
        expected = last_number(reference)
        return expected is not None and last_number(answer) == expected
    said, wanted = normalized(answer), normalized(reference)
    return said == wanted if rule == "exact" else bool(wanted) and _stands_in(wanted, said)


def _stands_in(wanted: str, said: str) -> bool:
    """As whole words: 7 does not stand in 17."""
    return re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", said) is not None


def normalized(text: str) -> str:
    """Without white space at the ends, and with one space where there is some inside."""
    return " ".join(text.split())


def last_number(text: str) -> Decimal | None:
    """The last number in a text, commas between digits taken out; None: there is none.

    Example: ``last_number("3 boxes of 12 are 36.0 eggs") == Decimal(36)``.
    """
    found = _NUMBER.findall(text)
    return Decimal(found[-1].replace(",", "")) if found else None
