"""Parses written numbers exactly: 1,000 and $1000.00 and 1000 dollars are the same.

A *literal* is a number that needs no calculation: an integer, a decimal, a fraction, a mixed number, or one of these
times a power of ten. 2 + 3, 5! and 2^10 are not literals, since they may be the question written down again.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from burnish.rewards.normalize import HEDGES

_NOTHING = re.compile(
    r"(?<!\\)\\!\s*|\\(?:left|right|[bB]igg?[lr]?|(?:display|text|script|scriptscript)style|limits|strut|mathstrut)(?![a-zA-Z])"
)
_THOUSANDS = re.compile(r"(?<=\d)\{,\}(?=\d{3}(?!\d))")
# Commands that change only the looks of their argument, which may have one level of braces.
_LOOKS = re.compile(
    r"\\(?:boldsymbol|bm|underline|emph|textcolor\s*\{\w+\}|color\s*\{\w+\})\s*\{((?:[^{}]|\{[^{}]*\})*)\}"
    r"|\\(?:text|mbox|mathrm|textbf|mathbf|mathit)\s*\{(\s*[-+]?[\d.,]+\s*)\}"
)
FORMULA = re.compile(r"(?<!\\)\$([^$\n]+?)(?<!\\)\$|\\\((.{1,500}?)\\\)|\\\[(.{1,500}?)\\\]", re.DOTALL)
"""Mathematics within text, with its delimiters."""
_EMPHASIS = re.compile(r"(?<![\w*)])\*\*([^*\n]+)\*\*(?![\w*(])|(?<!\w)__([^_\n]+)__(?!\w)|`([^`\n]+)`")
_SPACES = re.compile(r"(?<!\\)\\[,;: ]|\\(?:quad|qquad)\b|~|\s+")
_WRAPPERS = (("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$"), ("**", "**"), ("*", "*"), ("`", "`"))
# Words that change the number before them: 3 million, 14 below zero, 14 times two.
_CHANGING = """hundred thousand million billion trillion dozen dozens half halves third thirds quarter quarters squared
cubed factorial below under zero one two three four five six seven eight nine ten eleven twelve plus minus times over
alternatively otherwise else also then versus could might may between than least most"""
_CHANGES = frozenset(_CHANGING.split())
_TEXT = r"\\(?:text|mbox|mathrm|textbf|mathbf|operatorname)\s*\{[^{}]*\}"
_UNIT_TEXT = r"\\(?:text|mbox|mathrm|textbf|mathbf)\s*\{[^{}\d]*\}"
_CURRENCY = re.compile(r"^([-+]?)\s*(?:\\?\$|€|£|¥|₹|USD\b|US\$)\s*")
_MINUS = re.compile(r"^(?:minus|negative)\s+", re.IGNORECASE)
_SIGN = r"(?:\s*(?:\\?%|\^\s*\{?\s*\\circ\s*\}?|\\degree\b|°))?"
# A unit is one of these, or a word of at least three letters after a space; so 3x, 3 x and 12ab have none.
_SHORT = r"\s*(?:[cmk]m|[mk]g|m[lL]|ft|in|lb|oz|hr|[aApP]\.?[mM]|mph|of)\b"
_WORD = rf"(?:\s*{_UNIT_TEXT}|{_SHORT}|\s+[A-Za-z]{{3,}})\.?"
_UNIT = re.compile(rf"{_SIGN}((?:{_WORD}){{0,4}}|(?:{_WORD}){{1,4}}\s*(?:\^\s*\{{?[23]\}}?|²|³))\s*$")
_WHOLE = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)"
_DECIMAL = rf"(?:{_WHOLE}(?:\.\d*)?|\.\d+)"
_BRACED = r"\s*\{\s*([-+]?\d+)\s*\}"
_FRAC = re.compile(rf"\\[dtc]?frac(?:{_BRACED}|\s*(\d))(?:{_BRACED}|\s*(\d))")
_TIMES = r"(?:\\times|\\cdot|×|x|\*)"
_LITERAL = re.compile(
    rf"(?P<decimal>{_DECIMAL})(?:\s*(?:{_TIMES}\s*10\s*\^\s*(?:\{{\s*(?P<e1>[-+]?\d+)\s*\}}|(?P<e2>\d))|[eE](?P<e3>[-+]?\d+)))?",
    re.ASCII,
)
_RATIO = re.compile(rf"(?:(?P<whole>\d+)\s+)?(?P<over>{_WHOLE})\s*/\s*(?P<under>{_WHOLE})", re.ASCII)
_EQUAL = re.compile(r"(?<![<>!\\])=")
_HALF = re.compile(r"\d(?:[\s~]|\\[,;:! ]){0,10}(?:(?:text|mbox|mathrm)\s?\{\s?)?([ap])\.?\s?m(?![a-z])", re.IGNORECASE)
_CLOCK = re.compile(r"(\d{1,2})(?::(\d\d))?([ap])\.?m\.?", re.IGNORECASE)
# Words after a number that are part of the answer: 5 a.m. is not 5 p.m.
_TELLING = """north south east west bc bce ad ce clockwise counterclockwise anticlockwise left right up down gain profit
loss"""
_TELLS = frozenset(_TELLING.split())
MAX_EXPONENT = 400
"""Powers of ten beyond this are not literals: they are not used in answers, and would cost memory."""
MAX_LENGTH = 400
"""Characters of a literal."""


def literal(text: str) -> Fraction | None:
    """Exact value of a literal, without its unit; None: the text is not a literal.

    Percent signs, degrees, currencies and up to four words after the number are units and are dropped: 25% is 25.
    "minus" and "negative" before it are its sign.

    Examples: ``literal("$1,000.00") == 1000``; ``literal("1 4/5") == Fraction(9, 5)``; ``literal("2+3") is None``.
    """
    if len(text) > MAX_LENGTH:
        return None
    bare = unwrapped(text).replace("−", "-").rstrip(".")
    if bare.startswith("(") and bare.endswith(")") and not set("(),") & set(bare[1:-1]):
        bare = bare[1:-1].strip()
    bare = _CURRENCY.sub(r"\1", _MINUS.sub("-", bare))
    sign = -1 if bare.startswith("-") else 1
    bare = bare[1:].lstrip() if bare[:1] in ("-", "+") else bare
    bare = _CURRENCY.sub("", bare)
    number, rest = _leading(bare)
    unit = _UNIT.match(rest)
    if number is None or unit is None or (HEDGES | _CHANGES) & set(re.findall(r"[a-z]+", unit[1].lower())):
        return None
    return sign * number


def value(text: str) -> Fraction | None:
    """Value of a literal; of a chain of equations the last side, unless the sides contradict each other.

    Examples: ``value("x = 5") == 5``; ``value("5 - 3 = 2") == 2``; ``value("18 = 14") is None``.
    """
    if len(text) > MAX_LENGTH:
        return None
    return _value(text)


@lru_cache(maxsize=4096)
def _value(text: str) -> Fraction | None:
    if "=" not in text:
        return literal(text)
    *before, last = _EQUAL.split(unwrapped(text))
    number = literal(last)
    contradicted = any(literal(side) not in (None, number) for side in before)
    return None if contradicted else number


def qualifiers(text: str) -> frozenset[str]:
    """What a number's words say that changes the answer: half of the day, direction, era, gain or loss.

    Example: ``qualifiers("8 p.m.") == {"pm"}``.
    """
    half = _HALF.search(text)
    words = set(re.findall(r"(?<![\\a-z])[a-z]+", text.lower())) & _TELLS
    return frozenset(words | ({f"{half[1].lower()}m"} if half else set()))


def clock_time(text: str) -> tuple[int, int, str] | None:
    """Hour, minute and half of a time of the day; None: it is none.

    Example: ``clock_time("8:30 p.m.") == (8, 30, "p")``.
    """
    match = _CLOCK.fullmatch(re.sub(r"\\(?:text|mbox|mathrm)|[{}\s]", "", unwrapped(text)))
    return (int(match[1]), int(match[2] or 0), match[3].lower()) if match else None


def plain(text: str) -> str:
    """Text without delimiters of mathematics, emphasis, and commands that change only the looks."""
    if not any(mark in text for mark in "\\$*_`{"):
        return text
    bare = _THOUSANDS.sub(",", _NOTHING.sub("", text))
    bare = _LOOKS.sub(lambda match: match[1] or match[2], bare)
    bare = FORMULA.sub(lambda match: match[1] or match[2] or match[3], bare)
    return _EMPHASIS.sub(lambda match: match[1] or match[2] or match[3], bare)


def unwrapped(text: str) -> str:
    """Text without math delimiters, emphasis, spacing commands and text commands."""
    bare = _SPACES.sub(" ", plain(text)).strip()
    if bare.isalnum():
        return bare
    if bare.startswith("\\") and re.fullmatch(_TEXT, bare):
        bare = bare[bare.index("{") + 1 : -1].strip()
    for begin, end in _WRAPPERS:
        if len(bare) > len(begin) + len(end) and bare.startswith(begin) and bare.endswith(end):
            bare = bare[len(begin) : -len(end)]
    # A pair of dollar signs delimits mathematics; a single one in front is a currency.
    if bare.startswith("$") and bare.endswith("$") and len(bare) > 2:
        bare = bare[1:-1]
    if bare.startswith("{") and bare.endswith("}") and "{" not in bare[1:]:
        bare = bare[1:-1]
    return bare.strip()


def _leading(text: str) -> tuple[Fraction | None, str]:
    """Number at the beginning of a text, and the rest of the text."""
    if match := _FRAC.match(text):
        return _fraction(match), text[match.end() :]
    if match := _RATIO.match(text):
        return _ratio(match), text[match.end() :]
    match = _LITERAL.match(text)
    if not match:
        return None, text
    rest = text[match.end() :]
    number = _decimal(match)
    mixed = _FRAC.match(rest.lstrip())
    if mixed and number is not None and match["decimal"].isdigit():
        part = _fraction(mixed)
        return (None if part is None or part < 0 else number + part), rest.lstrip()[mixed.end() :]
    return number, rest


def _fraction(match: re.Match[str]) -> Fraction | None:
    over, under = int(match[1] or match[2]), int(match[3] or match[4])
    return Fraction(over, under) if under else None


def _ratio(match: re.Match[str]) -> Fraction | None:
    over, under = (int(re.sub(r"[, ]", "", match[name])) for name in ("over", "under"))
    return int(match["whole"] or 0) + Fraction(over, under) if under else None


def _decimal(match: re.Match[str]) -> Fraction | None:
    exponent = int(match["e1"] or match["e2"] or match["e3"] or 0)
    if abs(exponent) > MAX_EXPONENT:
        return None
    return Fraction(re.sub(r"[, ]", "", match["decimal"]).rstrip(".")) * Fraction(10) ** exponent
