"""Reward for multiple choice: the letter that a response chooses, by what it says of each letter.

Four places, the strongest first; the first that names a letter counts: boxes; statements of the answer ("the answer is
B", "B is correct", "I choose B"), of which the last that is not denied; options that are mentioned and not denied
("option B fits"); the first or last line if it is a letter alone, or an option ("B. Paris").
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import Field

from burnish.rewards import assertion
from burnish.rewards.extract import boxed, without_boxes
from burnish.rewards.mathematics import reference_answer
from burnish.rewards.normalize import without_prompt, without_thoughts
from burnish.rewards.response_view import ResponseView
from burnish.rewards.reward import Reward, text_reference
from burnish.rewards.verdict import UnusableRow

_TEXT = re.compile(r"\\(?:text|mathrm|mathbf|textbf|mbox)\s*\{([^{}]*)\}")
_DECORATION = re.compile(r"[*_`$\"]|\\[()\[\],;:! ]|</?\w+>|~~[^~\n]+~~")
_OPENING = " \t\n({['\\|"
_ARTICLE_A = re.compile(r"\s+(?!(?:or|and|is|because|since|as|rather|instead|over|not|with|was)\b)[a-z]")
_LOWER = re.compile(
    r"[(\[{'\s]{0,9}([a-z])(?:[)\]}]{1,2}|[.:](?=\s+[\w\"(])|(?=[.!]?\s*(?:$|\n)|,?\s+(?:because|since)\b))"
)
_OR_LOWER = re.compile(r"\s*(?:[,;/&]|\b(?:or|and|maybe|perhaps|possibly)\b)+\s*\(?([a-zA-Z])(?:\)|(?![\w']))")
_QUOTES = re.compile(r"[“”]|(?<!\w)['‘](?=\(?[A-Za-z]\b[^'‘’\n]{0,60}['’](?!\w))|(?<=[A-Za-z)])['’](?!\w)")
_IS = (
    r"\s*(?:(?:(?:is|was|(?:would|must|should|will|has to|can only) be)\b|[:=|–—-])\s*)*(?:n't\s+)?"
    r"(?:(?:therefore|thus|hence|then|clearly|simply|definitely|indeed|(?:most )?likely|the|option|choice|answer"
    r"|letter)\b\s*[:,]?\s*)*"
)
_STATED = re.compile(
    r"(?:\b(?:(?:correct|right|best|true) (?:option|statement|one|response|letter)|answer|choice)(?!s)"
    rf"(?:\s+(?:to|for)\b[^\n.?!:]{{0,80}}?(?=\s+(?:is|was|would|must|should|has to)\b|\s*:))?{_IS}"
    r"|\b(?:choos(?:e|ing)|chose|pick(?:ed|ing)?|select(?:ed|ing)?|go(?:ing)? (?:with|for))\s+"
    r"(?:(?:the|option|choice|answer|letter)\s+)*"
    r"|\b(?:therefore|hence|thus|so)\b,?\s+(?=[(\[]?[A-Z][)\]]?[.!]?\s*(?:$|\n)))",
    re.IGNORECASE,
)
_MENTIONED = re.compile(r"\boptions?\s*(?:is\b|:)?\s*:?\s*", re.IGNORECASE)
_RIGHT = re.compile(
    r"[)\]}.]*\s+(?:is|must be|has to be|would be)\s+(?:\w+ly\s+|indeed\s+)?(?:the\s+)?(?:only\s+)?"
    r"(?:correct|right|best|true|answer)\b",
    re.IGNORECASE,
)
_RETRACTION = (
    r"(?:[,;.…!?—–-]{1,3}\s{0,3}|\n\s{0,3})"
    r"(?:(?:no|wait|oops|sorry|actually|correction|i meant?|make that|scratch that)\b[,:.!\s—–-]{0,5}){1,6}"
)
_TAKEN_BACK = re.compile(
    rf"{_RETRACTION}(?:(?:(?:it|that|the (?:correct |right )?(?:answer|option))"
    r"(?:'s| is| was| must be| should be| has to be)|the)\s"
    r"|option\s)*",
    re.IGNORECASE,
)
_OF_ANOTHER = re.compile(r"[)\]}.]*\s+(?:is|was|has|does|would|says|and|or)\b")
_WITHDRAWN = re.compile(
    rf"{_RETRACTION}(?:(?:(?:that|this|it)(?:'s| is| was)\s+)?(?:wrong|incorrect|false|not (?:right|correct|true|it))\b"
    r"|(?:that|this|it) (?:can't|cannot|can not) be\b)",
    re.IGNORECASE,
)
_BUT_PERHAPS = re.compile(r"[)\]}.]*,?\s+(?:but|though|although)\s+(?:it\s+)?(?:could|might|may)\b", re.IGNORECASE)
_GUESSED = re.compile(r"(?:might|may|could|can)\s+be\b|(?:maybe|perhaps|possibly|probably|either)\b", re.IGNORECASE)
_DENIED = re.compile(r"(?:is\s+)?(?:not|never|neither|cannot|can't|\w*n't|n't)\b", re.IGNORECASE)
_NOT_BUT = re.compile(r"(?:not|n't)\s+\S+?,?\s+but(?:\s+rather)?\s+", re.IGNORECASE)
_WINDOW = 200
"""Characters that are looked at before and behind a mark."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What a place of a response says of letters."""

    place: int
    letters: frozenset[str]
    stance: assertion.Stance
    stated: bool
    """Whether it states the answer; False: it mentions an option."""


class ChoiceReward(Reward):
    """1 if the response chooses the reference's letter, and no other.

    "(B)", "B.", "B) because" and "\\text{B}" are all B; "A or B" chooses nothing, "not B" and "B is wrong" reject B.
    """

    name: Literal["choice"] = "choice"
    letters: Annotated[str, Field(pattern="^[A-Z]{2,26}$")] = "ABCDE"
    """The letters that can be chosen."""

    def score(self, answer: ResponseView) -> bool:
        expected = self._of_reference(answer)
        if len(expected) != 1:
            raise UnusableRow(f"the reference {answer.reference!r:.60} is none of the letters {self.letters}")
        return self.chosen(answer) == expected

    def known_good(self, answer: ResponseView) -> str | None:
        return f"The answer is ({''.join(self._of_reference(answer))})."

    def chosen(self, answer: ResponseView) -> frozenset[str]:
        """The letters that the response chooses: one if it makes a choice, several or none otherwise."""
        text = without_prompt(without_thoughts(answer.text), answer.asked)
        if in_boxes := frozenset[str]().union(*(self._letters_in(_bare(box)) for box in boxed(text))):
            return in_boxes
        bare = _bare(without_boxes(text))
        said = self._said(bare)
        stated = [one for one in said if one.stated and one.stance != "denied"]
        for one in reversed(stated):
            if one.stance == "hedged":
                return frozenset()
            denials = _union(later for later in said if later.stance == "denied" and later.place > one.place)
            if not one.letters & denials:
                return one.letters
        mentioned = [one for one in said if not one.stated and one.stance != "denied"]
        if stated or any(one.stance == "hedged" for one in mentioned):
            return frozenset()
        return _union(mentioned) or self._on_a_line(bare) - _union(said)

    def _of_reference(self, answer: ResponseView) -> frozenset[str]:
        return self._letters_in(_bare(reference_answer(text_reference(answer))))

    def _said(self, text: str) -> list[_Said]:
        """What the text says of letters, in its order."""
        said = [found for mark in _STATED.finditer(text) if (found := self._after(text, mark, stated=True))]
        if said or self._on_a_line(text) or self._letters_in(text):
            withdrawn = frozenset(self.letters)
            said += [_Said(mark.start(), withdrawn, "denied", False) for mark in _WITHDRAWN.finditer(text)]
            said += [found for mark in _TAKEN_BACK.finditer(text) if (found := self._taken_back(text, mark))]
        if "option" in text.lower():
            said += [found for mark in _MENTIONED.finditer(text) if (found := self._after(text, mark, stated=False))]
        for letter in _patterns(self.letters).letter.finditer(text):
            start, end = letter.span()
            before, after = text[max(0, start - _WINDOW) : start], text[end : end + _WINDOW]
            if _RIGHT.match(after):
                said.append(_Said(start, frozenset(letter[1]), assertion.stance_beside(before, after), True))
            elif assertion.denied_after(after):
                said.append(_Said(start, frozenset(letter[1]), "denied", False))
        return sorted(said, key=lambda one: one.place)

    def _after(self, text: str, mark: re.Match[str], *, stated: bool) -> _Said | None:
        """What stands behind a mark; None: no letter."""
        content = text[mark.end() : mark.end() + _WINDOW]
        contrast = _NOT_BUT.match(content)
        if not contrast and _DENIED.match(content):
            found = _patterns(self.letters).letter.search(content.partition("\n")[0])
            return _Said(mark.start(), frozenset(found[1]), "denied", stated) if found else None
        letters, after = self._leading(content[contrast.end() :] if contrast else content)
        if letters:
            before = text[max(0, mark.start() - _WINDOW) : mark.start()]
            stance = "hedged" if _BUT_PERHAPS.match(after) else assertion.stance_beside(before, after)
            return _Said(mark.start(), letters, stance, stated)
        return _Said(mark.start(), letters, "hedged", True) if stated and _GUESSED.match(content) else None

    def _taken_back(self, text: str, mark: re.Match[str]) -> _Said | None:
        """What a correction says; None: it has no letter, or a sentence about one ("Actually, C is close")."""
        letters, after = self._leading(text[mark.end() : mark.end() + _WINDOW])
        return None if letters and _OF_ANOTHER.match(after) else self._after(text, mark, stated=True)

    def _letters_in(self, text: str) -> frozenset[str]:
        return self._leading(text[:_WINDOW])[0]

    def _leading(self, text: str) -> tuple[frozenset[str], str]:
        """The letter that a text begins with, and those joined to it by "or", "and" or a comma; and the text behind.

        A letter of the next sentence or line is joined only if nothing is said of it: "B. C is wrong" is B alone.
        "A" followed by a word is an article, unless a mark or a word that gives a reason stands between. A small letter
        counts in parentheses, or alone.
        """
        if small := _LOWER.match(text):
            rest = text[small.end() :]
            other = _OR_LOWER.match(rest)
            return frozenset((small[1] + (other[1] if other else "")).upper()) & frozenset(self.letters), rest
        bare = text.lstrip(_OPENING)
        patterns = _patterns(self.letters)
        letters: set[str] = set()
        joined = patterns.first.match(bare)
        while joined and not (joined[0][-1] == "A" and _ARTICLE_A.match(bare[joined.end() :])):
            letters.add(joined[0][-1])
            bare = bare[joined.end() :]
            joined = patterns.joined.match(bare)
            if joined and not joined[0][:-1].strip(" ,;()").isalpha() and assertion.denied_after(bare[joined.end() :]):
                break
        return frozenset(letters), bare

    def _on_a_line(self, text: str) -> frozenset[str]:
        """The letter that is the first or last line alone, or begins it as an option; none if lines differ."""
        lines = [line for line in text.split("\n") if line.strip()]
        options = [_patterns(self.letters).line.match(line) for line in lines]
        letters = {(match[1] or match[2] or match[3]).upper() for match in options if match}
        at_an_end = bool(lines) and (options[0] is not None or options[-1] is not None)
        return frozenset(letters) if len(letters) == 1 and at_an_end else frozenset()


@dataclass(frozen=True, slots=True)
class _Patterns:
    first: re.Pattern[str]
    joined: re.Pattern[str]
    letter: re.Pattern[str]
    line: re.Pattern[str]


@lru_cache(maxsize=16)
def _patterns(letters: str) -> _Patterns:
    """Expressions for letters at the beginning, joined to another, anywhere, and on a line."""
    either = f"[{letters}{letters.lower()}]"
    other = r"(?i:or|and|maybe|perhaps|possibly)\b"
    return _Patterns(
        re.compile(rf"([{letters}])(?![\w'])"),
        re.compile(
            rf"(?:[ \t)\]}}]*(?:[,;/&( \t]|\b(?:or|and|maybe|perhaps|possibly)\b)+(?=[{letters}](?![\w']))"
            rf"|[\s.:)\]}}]+[\s(\[]*(?=[{letters}][.)\]}}]*\s*(?:$|\n|[(\[]?[{letters}](?![\w']))))[{letters}]"
        ),
        re.compile(rf"(?<![\w'])([{letters}])(?![\w'])[)\]}}]?"),
        re.compile(
            rf"^[\s'(\[{{>#-]*(?:({either})[\s.)\]}}']*$|([{letters}])(?:[.):\]]+\s+(?!{other})\S|,?\s+(?:because|since)\b|\s+[–—-]\s)"
            rf"|([{letters.lower()}])[)\]]\s+(?!{other})\S)"
        ),
    )


def _union(said: Iterable[_Said]) -> frozenset[str]:
    return frozenset[str]().union(*(one.letters for one in said))


def _bare(text: str) -> str:
    """Text without emphasis, quotation marks, delimiters, tags and text commands."""
    bare = _QUOTES.sub("", _DECORATION.sub("", _TEXT.sub(r"\1", text)))
    return bare.replace("’", "'").strip()
