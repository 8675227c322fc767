r"""Finds the last number of a text that can be its answer, the weakest form of `extract`.

A number that is part of something larger is never cut out of it: 10^{3}, \sqrt{2}, 2x, (3, 4), 1e3, 5!, 3 to the left
of an operator. If the last number is one, the text has no answer, since an earlier number is not what it ends in.
Labels ("Step 2", the markers of a list) and denied numbers ("5 is wrong") are passed over.
"""

from __future__ import annotations

import re

from burnish.rewards import assertion
from burnish.rewards.number import FORMULA, plain

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
_NUMERAL = re.compile(
    r"(?<![\d.])(?:(?:(?<=[=:(])|(?<=[=:(] )|(?<=\bis ))[-−](?:\s|\\[,;:! ])+|(?<![\w)\]}])[-+−])?\\?\$?(?:"
    r"(?:\d+\s*)?\\[dtc]?frac\s*(?:\{\s*[-+]?\d+\s*\}|\d)\s*(?:\{\s*[-+]?\d+\s*\}|\d)"
    rf"|\d+ \d+/\d+|{_DIGITS}?(?:\.\d+|(?<=\d))(?:/\d+)?)"
    r"(?:\s*(?:\\times|\\cdot|×|·|x|\*)\s*10\s*\^\s*(?:\{\s*[-+]?\d+\s*\}|-?\d)|[eE][-+]?\d+)?",
    re.ASCII,
)
_LIST_SEPARATOR = re.compile(r"(?:[\s,;/&|]|or\b|and\b|maybe\b|perhaps\b|minus\b|negative\b)*", re.IGNORECASE)
_SIGN_APART = re.compile(r"(?:^|(?<=[=(:]))\s*[-−](?:\s|~|\\[,;:! ])+(?=[\d.\\])")
_NEGATIVE = re.compile(r"\b(?:minus|negative)\s+$", re.IGNORECASE)
_TABLE = re.compile(r"\s*\|\s*")
_MONTH = (
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December"
    r"|(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\.?)"
)
_AMOUNT = r"\\?\$?-?\d[\d.,]*\s+(?:[A-Za-z]+\s+)?"
_JOINED_BEFORE = re.compile(
    r"(?:[\w.^{√]|\d[:,])\\?\$?$"
    r"|(?:[\d)\]}]|(?<![\w'])[a-zA-Z])\s*(?:\*\*|[-+*/×÷^–−·]|\\(?:times|cdot|div|pm|mp)(?![a-z])"
    r"|\b(?:plus|minus|times|over|divided by))\s*\\?\$?$"
    r"|\b(?:one|two|three|four|five|six|seven|eight|nine|ten)\s+(?:plus|minus|times|over|divided by)\s+\\?\$?$"
    r"|\\(?!(?:[,;:! ]|quad|qquad|Rightarrow|implies|therefore|to|equiv|rightarrow|longrightarrow)(?![a-z]))"
    r"[a-zA-Z]+(?:_\w|_\{\w+\}|\[\w+\])?\s*\{?\s*$"
    r"|[\w}]\($|[(\[{][^()\[\]{}]*,\s*$"
    r"|\d\s*\\?%\s+of\s+(?:the\s+)?\\?\$?$|\d\s+(?:out\s+)?of\s+(?:the\s+)?\\?\$?$"
    rf"|\b(?:from|between)\s+{_AMOUNT}(?:to|and|through|until)\s+\\?\$?$"
    rf"|\b(?:is|are|takes?|costs?)\s+{_AMOUNT}to\s+\\?\$?$"
    rf"|\d(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH},?\s+$"
)
_END = r"end\s*\{\s*(?:align|alignat|equation|gather|multline|eqnarray|split|aligned|gathered)\*?\s*\}"
_DAY = re.compile(rf"\b{_MONTH}\s+$")
_POWER = r"(?:\{\s*-?[1-4]\s*\}|-?[1-4](?!\d))"
_UNIT_POWER = re.compile(
    r"(\d(?:\s*(?:\\[,;:! ]\s*)?\\(?:text|mathrm|mbox|textrm)\s*\{[^{}\d^]{1,30}"
    rf"(?:\}}(?=\s*\^)|(?=\^\s*{_POWER}\s*\}}))"
    r"|(?:\s|\\[,;:! ]){1,3}(?:[A-Za-z]{1,5}/)?"
    r"(?:[cmkd]?m|ft|in|yd|mi|s|sec|hr?|units?|inch(?:es)?|feet|met(?:er|re)s?)"
    rf"|(?:[cmk]m|ft|in)))\s*\^\s*{_POWER}"
)
"""A number's unit, and its power."""
_JOINED_AFTER = re.compile(
    r"\s*(?:\^(?!\s*\{?\s*\\circ)|\*\*|_|√|π"
    r"|\\(?!text|mathrm|mbox|[,;:!%$ ]|circ|degree|quad|qquad|implies|Rightarrow|to\b"
    rf"|(?:square|blacksquare|Box|qed|hfill)\s*(?:$|[.\n])|{_END}|\\\s*(?:$|\\{_END})|\\(?!\s*[\\&\d]))"
    r"|(?:hundred|thousand|million|billion|trillion|dozens?|squared|cubed|factorial)\b"
    r"|(?:[A-Za-z]+\s+)?(?:below|under)\s+zero\b"
    r"|(?:times|plus|minus|over|divided by)\s+(?:one|two|three|four|five|six|seven|eight|nine|ten|[a-z]\b))"
    r"|!(?!\s*(?:$|\n|[A-Z\"'*<]))|\.\d"
    r"|(?!(?:[cmk]m|[mk]g|m[lL]|ft|in|lb|oz|hr|[ap]\.?m|mph)\b)[A-Za-z]"
    r"|\s*[+*/×÷·]\s*(?:[A-Za-z]\b|[(\\])|\s-\s(?:[A-Za-z]\b|[(\\])|-[A-Za-z]\b|[}\]]\s*[\^_{]"
)
_PAIR = re.compile(r"[(\[{]\s*\0\s*,[^()\n]{1,40}[)\]}]")
_LABEL = re.compile(
    r"\b(?:step|part|case|page|question|problem|equation|figure|exercise|chapter|example|line|row)\s+$", re.IGNORECASE
)
_MARKER = re.compile(r"^[ \t>#*]*(\d+)[.)][ \t]+\S", re.MULTILINE)
_TAG = re.compile(r"</?[A-Za-z]\w*>")
_WINDOW = 200
"""Characters that are looked at before and behind a number."""
_HALF = re.compile(r"\s?[ap]\.?m\b", re.IGNORECASE)


def last_number(text: str) -> tuple[str, str]:
    """The last number as it is written, and "number"; ("", reason) if it is no answer; ("", "") if there is none.

    Examples: ``last_number("It is $5$, not 6.") == ("5", "number")``; ``last_number("10^{3}")[0] == ""``.
    """
    marked = FORMULA.sub(_marked, text)
    content = _UNIT_POWER.sub(r"\1", assertion.without_contrasts(_TAG.sub(" ", plain(marked)))).rstrip()
    numerals = [match for match in _NUMERAL.finditer(content) if any(map(str.isdigit, match[0]))]
    markers = [match.start(1) for match in _MARKER.finditer(content)]
    labels = set(markers) if len(markers) > 1 else set()
    for place in range(len(numerals) - 1, -1, -1):
        numeral = numerals[place]
        before = content[max(0, numeral.start() - _WINDOW) : numeral.start()]
        after = content[numeral.end() : numeral.end() + _WINDOW]
        if numeral.start() in labels or _LABEL.search(before[-20:]):
            continue
        is_day = _DAY.search(before[-20:]) and len(numeral[0]) < 3
        joined = is_day or _JOINED_BEFORE.search(before[-60:]) or _JOINED_AFTER.match(after)
        if joined or _PAIR.search(f"{before[-3:]}\0{after[:50]}"):
            return "", "a part of an expression"
        gap = content[numerals[place - 1].end() : numeral.start()] if place else "."
        if _LIST_SEPARATOR.fullmatch(gap) and not _TABLE.fullmatch(gap) and numerals[place - 1].start() not in labels:
            return "", "a list of numbers"
        negative = _NEGATIVE.search(before)
        stance = assertion.stance_beside(before[: negative.start()] if negative else before, after)
        if stance == "hedged":
            return "", "a hedged answer"
        if stance == "asserted":
            half = _HALF.match(after)
            return ("-" if negative else "") + numeral[0].strip() + (half[0] if half else ""), "number"
    return "", "no number that is asserted" if numerals else ""


def _marked(formula: re.Match[str]) -> str:
    """A formula with its factorials as commands, and its signs next to their numbers."""
    content = next(group for group in formula.groups() if group is not None)
    signed = _SIGN_APART.sub("-", re.sub(r"(?<=[\w)}])!", r"\\factorial ", content))
    return formula[0].replace(content, signed)
