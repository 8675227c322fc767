"""Rewards for questions with one right answer: exact, normalized, regular expression, choice, number.

Each reward is 1 if the answer is right by the rule in its docstring, otherwise 0. Mathematics: see `mathematics`.
"""

from __future__ import annotations

import re
import string
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from burnish.rewards.extract import FORMS, Form, final_answer, is_number
from burnish.rewards.mathematics import reference_answer
from burnish.rewards.normalize import disguised, in_thought, plain_mathematics, spaced, without_thoughts
from burnish.rewards.number import qualifiers, value
from burnish.rewards.response_view import ResponseView
from burnish.rewards.reward import Reward, text_reference
from burnish.rewards.verdict import UnusableRow

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
# Punctuation with a meaning stays: between digits, a sign or point before a number, C++, C#, A+, O-, 5%.
_PUNCTUATION = re.compile(
    rf"(?!(?<=\d)[^\w\s](?=\d)|(?<![\w.])[-+<>~.](?=\.?\d)|(?<=\d)%|(?<=[^\W\d_])[+#]|(?<=\+)\+|(?<=(?<!\w)[a-z])-(?!\w))"
    rf"[{re.escape(string.punctuation)}]"
)


class ExactReward(Reward):
    """1 if the answer equals the reference character by character, ignoring white space at the ends."""

    name: Literal["exact"] = "exact"

    def score(self, answer: ResponseView) -> bool:
        return not in_thought(answer.text) and without_thoughts(answer.text).strip() == text_reference(answer).strip()

    def known_good(self, answer: ResponseView) -> str | None:
        return text_reference(answer)


class NormalizedReward(Reward):
    """1 if the answer equals the reference, ignoring case, punctuation, articles and white space.

    Punctuation that changes the meaning counts: -5 is not 5, 3.5 is not 35, C++ is not C.
    A reference may be a list, of which any text is right. Look-alike letters of other scripts differ.
    """

    name: Literal["normalized"] = "normalized"

    def score(self, answer: ResponseView) -> bool:
        text = normalized(without_thoughts(answer.text))
        return bool(text) and text in {normalized(reference) for reference in _references(answer)}

    def known_good(self, answer: ResponseView) -> str | None:
        return _references(answer)[0]


class RegexReward(Reward):
    """1 if the response matches a regular expression (Python's ``re``); a thought that is not closed never matches.

    The whole response is matched, thought included, since an expression may describe both.
    """

    name: Literal["regex"] = "regex"
    pattern: str | None = None
    """The expression; null: the row's reference."""
    match: Literal["fullmatch", "search"] = "fullmatch"
    """fullmatch: all of the response must match, white space at its ends ignored. search: a part of it."""

    @field_validator("where", mode="before")
    @classmethod
    def _where_selects_rows(cls, given: object) -> object:
        if isinstance(given, str):
            raise ValueError(  # noqa: TRY004 (pydantic reads no other)
                "where selects the rows that are graded ({column: value}); the way of matching responses is match"
            )
        return given

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"is a regular expression: {error}") from error
        return pattern

    def score(self, answer: ResponseView) -> bool:
        try:
            pattern = re.compile(self.pattern if self.pattern is not None else text_reference(answer))
        except re.error as error:
            raise UnusableRow(f"the reference is no regular expression: {error}") from error
        if in_thought(answer.text):
            return False
        if self.match == "fullmatch":
            return pattern.fullmatch(answer.text.strip()) is not None
        return pattern.search(answer.text) is not None


class NumberReward(Reward):
    """1 if the final number equals the reference within a tolerance:

    |answer - reference| <= absolute + relative * |reference|, computed exactly.
    """

    name: Literal["number"] = "number"
    absolute: Annotated[float, Field(ge=0)] = 0.0
    relative: Annotated[float, Field(ge=0)] = 0.0
    forms: tuple[Form, ...] = FORMS
    """Where the number may stand: see `extract`."""

    @field_validator("forms", mode="before")
    @classmethod
    def _listed(cls, given: object) -> object:
        return tuple(given) if isinstance(given, list) else given

    @model_validator(mode="after")
    def _relative_is_below_one(self) -> NumberReward:
        if self.relative >= 1:
            raise ValueError("relative is below 1: with 1 or more, 0 is always right")
        return self

    def score(self, answer: ResponseView) -> bool:
        reference = plain_mathematics(reference_answer(text_reference(answer)))
        expected = value(reference)
        if expected is None:
            raise UnusableRow(f"the reference {answer.reference!r:.60} is not a number")
        final = plain_mathematics(final_answer(answer.text, answer.asked, self.forms, is_number).text or "")
        if disguised(final, "") or qualifiers(reference) - qualifiers(final):
            return False
        number = value(final)
        tolerance = Fraction(self.absolute) + Fraction(self.relative) * abs(expected)
        return number is not None and abs(number - expected) <= tolerance

    def known_good(self, answer: ResponseView) -> str | None:
        final = reference_answer(text_reference(answer))
        texts = {"boxed": f"\\boxed{{{final}}}", "hashes": f"#### {final}", "phrase": f"The answer is {final}"}
        return next((texts[form] for form in FORMS if form in self.forms and form in texts), final)


def normalized(text: str) -> str:
    """Text in lower case, without articles and punctuation that does not change its meaning, with one space between
    words.

    Example: ``normalized("The U.S., 1,000!") == "us 1000"``; "-5", "3.5", "10:30" and "c++" keep their signs.
    """
    kept = _THOUSANDS.sub("", text.lower().replace("−", "-"))
    words = spaced(_PUNCTUATION.sub("", kept))
    return spaced(_ARTICLES.sub(" ", words)) or words


def _references(answer: ResponseView) -> list[str]:
    given = answer.reference
    texts = [text for text in given if isinstance(text, str)] if isinstance(given, list | tuple) else []
    usable = [text for text in texts or [text_reference(answer)] if normalized(text)]
    if not usable:
        raise UnusableRow(f"the reference {given!r:.60} has only punctuation, which normalized ignores")
    return usable
