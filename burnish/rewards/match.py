"""Compares a response with a reference by a named rule, by the final answer of both. Used by `evaluate.accuracy`."""

from __future__ import annotations

import re
from typing import Literal

from burnish.rewards.extract import final_number
from burnish.rewards.normalize import in_thought, spaced, without_thoughts

MatchRule = Literal["exact", "contains", "number"]
"""exact: the same text. contains: the answer contains the reference as whole words. number: the final numbers of both
are equal, whatever the rest (`extract`). Thoughts are no part of either. In both texts white space at the ends is
removed and inside is one space; case matters."""


def matches(response: str, reference: str, rule: MatchRule) -> bool:
    """Whether a response agrees with the reference; one whose thought is not closed never does.

    Example: ``matches("So it is 1,200.", "#### 1200", "number")``.
    """
    if in_thought(response):
        return False
    if rule == "number":
        number = final_number(reference)
        return number is not None and final_number(response) == number
    text, expected = spaced(without_thoughts(response)), spaced(without_thoughts(reference))
    return text == expected if rule == "exact" else bool(expected) and _contains(text, expected)


def _contains(text: str, words: str) -> bool:
    """Whether a text contains words as whole words: 17 does not contain 7."""
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text) is not None
