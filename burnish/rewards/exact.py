"""Rewards for questions with one right answer: exact, normalized, regular expression, choice, number.

Each reward is 1 if the answer is right by the rule in its docstring, otherwise 0. Mathematics: see `mathematics`.
"""

from __future__ import annotations

import re
import string
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from burnish.rewards.extract import FORMS, Form, boxed, final_answer
from burnish.rewards.mathematics import reference_answer
from burnish.rewards.normalize import disguised, in_thought, plain_mathematics, spaced, without_prompt, without_thoughts
from burnish.rewards.number import literal
from burnish.rewards.response_view import ResponseView
from burnish.rewards.reward import Reward, text_reference
from burnish.rewards.verdict import UnusableRow

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_CHOICE_PHRASE = re.compile(
    r"\b(?:final |correct |right |best )?(?:answer|option|choice)\s*(?:is|:)?\s*:?\s*(\S[^\n]*)", re.IGNORECASE
)
_TEXT = re.compile(r"\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}")
_DECORATION = re.compile(r"[*_`$\"'({\[\\]")
_ARTICLE_A = re.compile(r"\s+(?!(?:or|and|is|because|since|as)\b)[a-z]")
_LETTER_LINE = re.compile(r"^[\s*_\"'`]*\(?([A-Za-z])\)?[\s.*_\"'`]*$")


class ExactReward(Reward):
    """1 if the answer equals the reference character by character, ignoring white space at the ends."""

    name: Literal["exact"] = "exact"

    def score(self, answer: ResponseView) -> bool:
        return not in_thought(answer.text) and without_thoughts(answer.text).strip() == text_reference(answer).strip()

    def known_good(self, answer: ResponseView) -> str | None:
        return text_reference(answer)


class NormalizedReward(Reward):
    """1 if the answer equals the reference, ignoring case, punctuation, articles and white space.

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


class ChoiceReward(Reward):
    """1 if the response chooses the reference's letter, and no other.

    The first place that occurs counts: in a box; after "answer", "option" or "choice"; alone on the last line.
    "(B)", "B.", "B) because" and "\\text{B}" are all B; "A or B" chooses nothing.
    """

    name: Literal["choice"] = "choice"
    letters: Annotated[str, Field(pattern="^[A-Z]{2,26}$")] = "ABCDE"
    """The letters that can be chosen."""

    def score(self, answer: ResponseView) -> bool:
        expected = self._letters_in(reference_answer(text_reference(answer)))
        if len(expected) != 1:
            raise UnusableRow(f"the reference {answer.reference!r:.60} is none of the letters {self.letters}")
        return self.chosen(answer) == expected

    def known_good(self, answer: ResponseView) -> str | None:
        return f"The answer is ({''.join(self._letters_in(reference_answer(text_reference(answer))))})."

    def chosen(self, answer: ResponseView) -> set[str]:
        """The letters that the response chooses: one if it makes a choice, several or none otherwise."""
        text = without_prompt(without_thoughts(answer.text), answer.asked)
        if boxes := [box for box in boxed(text) if box.strip()]:
            return set().union(*map(self._letters_in, boxes))
        if phrases := _CHOICE_PHRASE.findall(text.rstrip()):
            return self._letters_in(phrases[-1])
        single = _LETTER_LINE.match(text.strip().rpartition("\n")[2])
        return {single[1].upper()} & set(self.letters) if single else set()

    def _letters_in(self, text: str) -> set[str]:
        """The letter that a text begins with, and those that are joined to it by "or", "and" or a comma.

        "A" followed by a word is an article, unless a mark or a word that gives a reason stands between.
        """
        bare = _DECORATION.sub("", _TEXT.sub(r"\1", text)).lstrip()
        letter = rf"([{self.letters}])(?![\w'])"
        letters: set[str] = set()
        joined = re.match(letter, bare)
        while joined and not (joined[1] == "A" and _ARTICLE_A.match(bare[joined.end() :])):
            letters.add(joined[1])
            bare = bare[joined.end() :]
            joined = re.match(rf"[\s.:)\]}}]*(?:[,;/&\s]|\bor\b|\band\b)+{letter}", bare)
        return letters


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
        expected = literal(plain_mathematics(reference_answer(text_reference(answer))))
        if expected is None:
            raise UnusableRow(f"the reference {answer.reference!r:.60} is not a number")
        final = final_answer(answer.text, answer.asked, self.forms).text
        number = None if final is None or disguised(final, "") else literal(plain_mathematics(final))
        tolerance = Fraction(self.absolute) + Fraction(self.relative) * abs(expected)
        return number is not None and abs(number - expected) <= tolerance

    def known_good(self, answer: ResponseView) -> str | None:
        final = reference_answer(text_reference(answer))
        texts = {"boxed": f"\\boxed{{{final}}}", "hashes": f"#### {final}", "phrase": f"The answer is {final}"}
        return next((texts[form] for form in FORMS if form in self.forms and form in texts), final)


def normalized(text: str) -> str:
    """Text in lower case, without punctuation and articles, with one space between words."""
    return spaced(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)))


def _references(answer: ResponseView) -> list[str]:
    if isinstance(answer.reference, list | tuple):
        texts = [text for text in answer.reference if isinstance(text, str) and normalized(text)]
        if texts:
            return texts
    return [text_reference(answer)]
