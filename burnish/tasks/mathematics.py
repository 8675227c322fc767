"""Mathematics: the final answer of a response against the reference, by exact numbers first and math-verify then.

Over `extract` and `number`. Needs the extra `math` for answers that are not plain numbers. The rules (docs/rewards.md
has them with examples):

1. A reference that is a literal number wants a literal number, exactly the same one. Sums, powers, factorials that
   would come to the same are the question written down again.
2. A reference of words wants the same words; one with a number base (52_8) the same digits and base.
3. Anything else is the same if its text is, or if math-verify finds it equal, decimals taken exactly; but not if it is
   copied from the prompt, has operations that the reference has not (integrals, sums, limits, factorials), or is much
   longer than the reference. What would take for ever to compute (towers of powers) is wrong unless its text is right.

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
from burnish.tasks.extract import FORMS, Form, boxed, final_answer
from burnish.tasks.normalize import HEDGES, disguised, plain_mathematics, spaced
from burnish.tasks.number import literal, unwrapped
from burnish.tasks.response_view import ResponseView
from burnish.tasks.reward import Reward, Seconds, text_reference
from burnish.tasks.verdict import UnusableRow

LONGEST = 300
"""Characters of a final answer that is looked at."""
_MORE_OPERATIONS = 3
"""So many operations more than the reference's may an answer have."""

_SENTENCE = 3
"""Words that make a sentence of a reference."""

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
_NAMED = re.compile(r"^\s*[A-Za-z](?:_\{?\w+\}?)?(?:\([a-z]\))?\s*=")
_EQUAL = re.compile(r"(?<![<>!\\])=")


class MathReward(Reward):
    """1 if the final answer is the reference's, otherwise 0."""

    name: Literal["math"] = "math"
    timeout: Seconds = 5.0
    forms: tuple[Form, ...] = FORMS
    """Where final answers may stand: boxed, hashes, phrase, number; the strongest that occurs counts."""

    @field_validator("forms", mode="before")
    @classmethod
    def _listed(cls, given: object) -> object:
        return tuple(given) if isinstance(given, list) else given

    def prepare(self) -> None:
        """Imports math-verify."""
        _math_verify()

    def score(self, answer: ResponseView) -> bool:
        reference = reference_answer(text_reference(answer))
        final = final_answer(answer.text, answer.asked, self.forms)
        return final.text is not None and right(final.text, reference, answer.asked)

    def same_reference(self, one: ResponseView, other: ResponseView) -> bool:
        """Also if both are the same number: x = 5 and 5.0 are."""
        finals = [plain_mathematics(reference_answer(text_reference(each))) for each in (one, other)]
        numbers = [_number(final) for final in finals]
        return _squeezed(finals[0]) == _squeezed(finals[1]) or (None not in numbers and numbers[0] == numbers[1])

    def known_good(self, answer: ResponseView) -> str | None:
        """The reference in a box, or after the strongest form that counts."""
        final = reference_answer(text_reference(answer))
        written = {"boxed": f"\\boxed{{{final}}}", "hashes": f"#### {final}", "phrase": f"The answer is {final}"}
        return next((written[form] for form in FORMS if form in self.forms and form in written), final)


@lru_cache(maxsize=4096)
def reference_answer(reference: str) -> str:
    """The final answer in a reference: its box, its line ``#### …`` or ``A: …``, otherwise all of it.

    Of a sentence with a number ("Now Ann has 5 apples.") it is the final answer by the forms of a response.

    Raises:
        UnusableRow: it says nothing.
    """
    found = boxed(reference) or _HASHES.findall(reference) or _LAST_LINE.findall(reference) or [reference]
    final: str = found[-1].strip()
    if not final:
        raise UnusableRow("the reference has no final answer")
    is_sentence = "\\" not in final and len(re.findall("[A-Za-z]{2,}", final)) >= _SENTENCE
    if is_sentence and literal(final) is None:
        return final_answer(final, "").text or final
    return final


def right(final: str, reference: str, prompt: str = "") -> bool:
    """Whether a final answer is the reference's. Example: ``right(r"\\frac{2}{4}", "1/2")``.

    Args:
        final: as `final_answer` found it.
        reference: as `reference_answer` found it.
        prompt: what was asked; an expression copied from it is no answer.
    """
    if len(final) > max(LONGEST, 2 * len(reference)) or disguised(final, reference):
        return False
    said, wanted = plain_mathematics(final), plain_mathematics(reference)
    number = literal(wanted) if re.search("[A-Za-z]", wanted) else _number(wanted)
    if number is not None:
        return _number(said) == number
    if _squeezed(said) == _squeezed(wanted):
        return True
    bare = unwrapped(wanted)
    if _WORDS.fullmatch(bare):
        return _words(said) == _words(wanted)
    if _BASE.fullmatch(_squeezed(wanted)):
        return False
    if not _EQUAL.search(wanted):
        said = _NAMED.sub("", unwrapped(said))
    if _is_no_answer(said, wanted, prompt):
        return False
    return _equal(said, wanted)


def _number(said: str) -> Fraction | None:
    """The literal that is said; of a chain of equations the last side, unless the sides contradict each other."""
    *before, last = _EQUAL.split(unwrapped(said))
    number = literal(last)
    contradicted = any(literal(side) not in (None, number) for side in before)
    return None if contradicted else number


def _words(text: str) -> str:
    return re.sub(r"[^a-z0-9 ]", "", spaced(unwrapped(text)).lower()).strip()


@lru_cache(maxsize=4096)
def _squeezed(text: str) -> str:
    """The text without what changes nothing: spaces, size of brackets, kind of fraction, units, the last stop."""
    bare = re.sub(r"\\[dt]frac", r"\\frac", unwrapped(text).rstrip("."))
    bare = re.sub(r"\^\s*\{?\s*\\circ\s*\}?", "", bare)
    bare = re.sub(r"_\s*\{\s*(\w+)\s*\}", r"_\1", bare)
    bare = re.sub(r"\\(?:text|mbox|mathrm)\s*\{([^{}]*)\}", r"\1", bare)
    return re.sub(r"(?<!\\)\\[,;:! ]|\s", "", bare)


def _is_no_answer(said: str, wanted: str, prompt: str) -> bool:
    words = set(re.findall(r"[a-z]+", said.lower())) & HEDGES
    if words - set(re.findall(r"[a-z]+", wanted.lower())):
        return True
    if _WORDS_BETWEEN.search(said) and not _WORDS_BETWEEN.search(wanted):
        return True
    if len(_EQUAL.findall(said)) > len(_EQUAL.findall(wanted)):
        return True
    if set(_UNEVALUATED.findall(said)) - set(_UNEVALUATED.findall(wanted)) or _takes_for_ever(said):
        return True
    operations = len(_OPERATION.findall(said))
    if operations > len(_OPERATION.findall(wanted)) + _MORE_OPERATIONS:
        return True
    return operations > 0 and _squeezed(said) in _squeezed(prompt)


def _takes_for_ever(said: str) -> bool:
    """Powers of powers, and exponents of four digits."""
    exponents = [braced or single for braced, single in _EXPONENT.findall(said)]
    return any("^" in each or re.search(r"\d{4}", each) for each in exponents)


def _equal(said: str, wanted: str) -> bool:
    parsed, reference = _parsed(said), _parsed(wanted)
    if parsed is None or reference is None:
        return False
    verified: bool = _math_verify().verify(
        reference, parsed, strict=True, numeric_precision=50, timeout_seconds=None, raise_on_error=True
    )
    return verified


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Any:
    """As sympy has it, decimals as exact fractions; None: it cannot be read, or is not finite."""
    import sympy

    library = _math_verify()
    config = library.LatexExtractionConfig(boxed_match_priority=0)
    found = library.parse(
        f"\\boxed{{{unwrapped(text)}}}",
        [config],
        fallback_mode="no_fallback",
        parsing_timeout=None,
        raise_on_error=False,
    )
    if not found or found[0].has(sympy.nan, sympy.zoo):
        return None
    return found[0].xreplace({each: sympy.Rational(str(each)) for each in found[0].atoms(sympy.Float)})


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
    # It warns of every call without its own timeout; here a whole process has one.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    return math_verify
