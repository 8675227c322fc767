"""Reward for mathematics: compares the final answer with the reference, by exact numbers first, then by math-verify.

Needs the extra `math` for answers that are not plain numbers. The rules (with examples in docs/rewards.md):

1. If the reference is a literal number, the answer must be a literal number and exactly equal. Sums, powers and
   factorials of the same value are rejected, since they may be the question written down again.
2. If the reference is words, the answer must be the same words; with a number base (52_8) the same digits and base.
3. Other answers are right if the text is equal, or if math-verify finds them equal, decimals taken exactly; but not if
   the answer is copied from the prompt, has operations that the reference has not (integrals, sums, limits,
   factorials), or is much longer than the reference. Towers of powers, whose evaluation would not end, are wrong unless
   the text is equal.

Departs from math-verify: its own extraction, rounding to six decimals, and timeouts by signals are not used.
"""

from __future__ import annotations

import logging
import re
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal

from pydantic import field_validator

from burnish.errors import RecipeError
from burnish.rewards.extract import FORMS, Form, Readable, boxed, final_answer, is_number
from burnish.rewards.normalize import HEDGES, disguised, plain_mathematics, spaced, without_thoughts
from burnish.rewards.number import clock_time, literal, qualifiers, unwrapped, value
from burnish.rewards.response_view import ResponseView
from burnish.rewards.reward import Reward, Seconds, text_reference
from burnish.rewards.verdict import UnusableRow

MAX_LENGTH = 300
"""Characters; longer final answers are wrong, unless the reference is half as long."""
_MORE_OPERATIONS = 3
"""Number of operations that an answer may have more than the reference."""

_SENTENCE = 3
"""Number of words from which a reference is read as a sentence."""

_HASHES = re.compile(r"^[ \t]*####(.*)$", re.MULTILINE)
_LAST_LINE = re.compile(r"^\s*A:\s*(\S.*?)\s*\Z", re.MULTILINE)
_OPERATION = re.compile(r"[-+*/^=]|\\(?:[dt]?frac|sqrt|cdot|times|div|log|ln|exp|sin|cos|tan|cot|sec|csc|arc[a-z]+)\b")
_UNEVALUATED = re.compile(
    r"\\(?:i*int|sum|prod|lim|binom|choose|gcd|lcm|det|max|min|bmod|pmod|mod|lfloor|lceil|deg)(?![a-z])|!"
)
_EXPONENT = re.compile(r"\^\s*(?:\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}|(\S))")
_WORDS = re.compile(r"[A-Za-z]{2,}(?:[ '-][A-Za-z]+)*|\(?[A-Z]\)?")
_BASE = re.compile(r"[\dA-F]+_\{?\d+\}?")
_WORDS_BETWEEN = re.compile(r"\\(?:text|mbox|mathrm|textbf|mathbf)\s*\{[^{}]*[a-zA-Z]{2}[^{}]*\}\s*[^\s.}^]")
_FORMULA = re.compile(r"[\d\\=^_(\[{]|\b[A-Za-z]\b")
_NAMED = re.compile(r"^\s*[A-Za-z](?:_\{?\w+\}?)?(?:\([a-z]\))?\s*=")
_JOINT = re.compile(
    r"(?:,\s*|(?<=[\s})\d]))\\(?:text|mbox|mathrm)\s*\{\s*(?:and|or)\s*\}\s*(?=\S)"
    r"|\s*,?\s+(?:and|or)\s+(?=[-+\d(\\])"
)
_NAME = re.compile(r"(?:^|(?<=,))\s*[A-Za-z](?:_\{?\w+\}?)?\s*=")
_EQUAL = re.compile(r"(?<![<>!\\])=")


class MathReward(Reward):
    """1 if the final answer equals the reference, otherwise 0."""

    name: Literal["math"] = "math"
    timeout: Seconds = 5.0
    forms: tuple[Form, ...] = FORMS
    """Forms of final answers that count: boxed, hashes, phrase, number; the first that occurs is used."""

    @field_validator("forms", mode="before")
    @classmethod
    def _listed(cls, given: object) -> object:
        return tuple(given) if isinstance(given, list) else given

    def prepare(self) -> None:
        """Imports math-verify."""
        _math_verify()

    def score(self, answer: ResponseView) -> bool:
        reference = reference_answer(text_reference(answer))
        final = final_answer(answer.text, answer.asked, self.forms, _readable(reference))
        return final.text is not None and is_correct(final.text, reference, answer.asked)

    def same_reference(self, one: ResponseView, other: ResponseView) -> bool:
        """Also True if both are the same number, such as x = 5 and 5.0."""
        finals = [plain_mathematics(reference_answer(text_reference(row))) for row in (one, other)]
        numbers = [value(final) for final in finals]
        return _squeezed(finals[0]) == _squeezed(finals[1]) or (None not in numbers and numbers[0] == numbers[1])

    def known_good(self, answer: ResponseView) -> str | None:
        """The reference in the first form that counts, such as a box."""
        final = reference_answer(text_reference(answer))
        texts = {"boxed": f"\\boxed{{{final}}}", "hashes": f"#### {final}", "phrase": f"The answer is {final}"}
        return next((texts[form] for form in FORMS if form in self.forms and form in texts), final)


@lru_cache(maxsize=4096)
def reference_answer(reference: str) -> str:
    """Final answer in a reference: its box, its line ``#### …`` or ``A: …``, otherwise all of it.

    A sentence with a number ("Now Ann has 5 apples.") is read by the forms of a response.

    Raises:
        UnusableRow: it is empty.
    """
    said = without_thoughts(reference)
    candidates = boxed(said) or _HASHES.findall(said) or _LAST_LINE.findall(said) or [said]
    final: str = candidates[-1].strip()
    if not final:
        raise UnusableRow("the reference has no final answer")
    is_sentence = "\\" not in final and len(re.findall("[A-Za-z]{2,}", final)) >= _SENTENCE
    if is_sentence and literal(final) is None:
        return final_answer(final).text or final
    return final


@lru_cache(maxsize=4096)
def _readable(reference: str) -> Readable:
    """What can be an answer where this is the reference: a number, a formula, or any text if it is words."""
    if _number(plain_mathematics(reference)) is not None:
        return is_number
    if _WORDS.fullmatch(unwrapped(reference)):
        return lambda text: True
    return lambda text: _FORMULA.search(text) is not None


def is_correct(final: str, reference: str, prompt: str = "") -> bool:
    """Whether a final answer equals the reference. Example: ``is_correct(r"\\frac{2}{4}", "1/2")``.

    Args:
        final: from `final_answer`.
        reference: from `reference_answer`.
        prompt: of the response; an expression copied from it is not accepted.
    """
    if len(final) > max(MAX_LENGTH, 2 * len(reference)) or disguised(final, reference):
        return False
    answer, expected = plain_mathematics(final), plain_mathematics(reference)
    if time := clock_time(expected):
        return clock_time(answer) == time
    if (telling := qualifiers(expected)) and telling != qualifiers(answer):
        return False
    number = _number(expected)
    if number is not None:
        return value(answer) == number
    if _is_enumeration(expected):
        answer, expected = _enumerated(answer), _enumerated(expected)
    if _squeezed(answer) == _squeezed(expected):
        return True
    bare = unwrapped(expected)
    if _WORDS.fullmatch(bare):
        return _words(answer) == _words(expected)
    if _BASE.fullmatch(_squeezed(expected)):
        return _squeezed(answer).replace(",", "") == _squeezed(expected).replace(",", "")
    if _is_set(answer) is not None and _is_set(expected) is not None and _is_set(answer) != _is_set(expected):
        return False
    if not _EQUAL.search(expected):
        answer = _NAMED.sub("", unwrapped(answer))
    if _is_no_answer(answer, expected, prompt):
        return False
    return _equal(answer, expected)


def _number(reference: str) -> Fraction | None:
    """Value of a reference that is a number; None: it is none, such as the equation x + y = 5."""
    bare = _NAMED.sub("", unwrapped(reference))
    return literal(bare) if re.search("[A-Za-z]", bare) else value(bare)


def _is_enumeration(reference: str) -> bool:
    """Whether a reference has several members with numbers: a comma that is not in brackets."""
    depth, bare = 0, unwrapped(reference)
    for char in bare:
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0:
            return re.search(r"\d", bare) is not None
    return False


def _enumerated(text: str) -> str:
    """Members with commas between them instead of "and" and "or", without the name if all have the same one."""
    listed = _JOINT.sub(", ", unwrapped(text))
    names = {name.strip(" =") for name in _NAME.findall(listed)}
    return _NAME.sub("", listed) if len(names) == 1 else listed


def _is_set(text: str) -> bool | None:
    """Whether a text in brackets is a set; None: it is not in brackets."""
    bare = unwrapped(text)
    if bare.startswith("\\{") and bare.endswith("\\}"):
        return True
    return False if bare[:1] in ("(", "[") and bare[-1:] in (")", "]") else None


def _words(text: str) -> str:
    return re.sub(r"[^a-z0-9 ]", "", spaced(unwrapped(text)).lower()).strip()


@lru_cache(maxsize=4096)
def _squeezed(text: str) -> str:
    """Text without irrelevant marks: spaces, size of brackets, kind of fraction, units, final full stop."""
    bare = re.sub(r"\\[dt]frac", r"\\frac", unwrapped(text).rstrip("."))
    bare = re.sub(r"\^\s*\{?\s*\\circ\s*\}?", "", bare)
    bare = re.sub(r"_\s*\{\s*(\w+)\s*\}", r"_\1", bare)
    bare = re.sub(r"\\(?:text|mbox|mathrm)\s*\{([^{}]*)\}", r"\1", bare)
    return re.sub(r"(?<!\\)\\[,;:! ]|\s", "", bare)


def _is_no_answer(answer: str, expected: str, prompt: str) -> bool:
    hedges = set(re.findall(r"[a-z]+", answer.lower())) & HEDGES
    if hedges - set(re.findall(r"[a-z]+", expected.lower())):
        return True
    if _WORDS_BETWEEN.search(answer) and not _WORDS_BETWEEN.search(expected):
        return True
    if len(_EQUAL.findall(answer)) > len(_EQUAL.findall(expected)):
        return True
    if set(_UNEVALUATED.findall(answer)) - set(_UNEVALUATED.findall(expected)) or _is_endless(answer):
        return True
    operations = len(_OPERATION.findall(answer))
    if operations > len(_OPERATION.findall(expected)) + _MORE_OPERATIONS:
        return True
    return operations > 0 and _squeezed(answer) in _squeezed(prompt)


def _is_endless(answer: str) -> bool:
    """Whether evaluation would not end: powers of powers, and exponents of four digits."""
    exponents = [braced or single for braced, single in _EXPONENT.findall(answer)]
    return any("^" in exponent or re.search(r"\d{4}", exponent) for exponent in exponents)


def _equal(answer: str, expected: str) -> bool:
    parsed, reference = _parsed(answer), _parsed(expected)
    if parsed is None or reference is None:
        return False
    verified: bool = _math_verify().verify(
        reference, parsed, strict=True, numeric_precision=50, timeout_seconds=None, raise_on_error=True
    )
    return verified


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Any:
    """Sympy expression, decimals as exact fractions; None: it cannot be parsed, or is not finite."""
    import sympy

    library = _math_verify()
    config = library.LatexExtractionConfig(boxed_match_priority=0)
    expressions = library.parse(
        f"\\boxed{{{unwrapped(text)}}}",
        [config],
        fallback_mode="no_fallback",
        parsing_timeout=None,
        raise_on_error=False,
    )
    if not expressions or expressions[0].has(sympy.nan, sympy.zoo):
        return None
    decimals = expressions[0].atoms(sympy.Float)
    return expressions[0].xreplace({decimal: sympy.Rational(str(decimal)) for decimal in decimals})


@lru_cache(maxsize=1)
def _math_verify() -> Any:
    try:
        import math_verify
    except ImportError as error:
        raise RecipeError(
            given="reward math: math-verify is not installed",
            rule="it compares answers that are not plain numbers",
            remedy="pip install 'burnish[math]'",
        ) from error
    # It warns at every call without a timeout of its own; here the whole process has one.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    return math_verify
