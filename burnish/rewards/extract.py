"""Extracts the final answer from a response.

Four forms, the strongest first; the first that occurs counts:

- ``boxed``: ``\\boxed{…}``, the last one; all non-empty ones must be the same answer
- ``hashes``: a line ``#### …``, GSM8K's form; all must be the same
- ``phrase``: "the answer is …", "Answer: …", a line "A: …"; the last one, up to the end of its sentence
- ``number``: the last number, unless it ends a list of numbers or a calculation without result

Thoughts before ``</think>`` and copies of the prompt are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from burnish.rewards.normalize import HEDGES, plain_mathematics, spaced, without_prompt, without_thoughts
from burnish.rewards.number import literal, unwrapped

Form = Literal["boxed", "hashes", "phrase", "number"]
FORMS: tuple[Form, ...] = ("boxed", "hashes", "phrase", "number")

_HASHES = re.compile(r"^[ \t]*####(.*)$", re.MULTILINE)
_PHRASE = re.compile(
    r"(?:\b(?:final |correct |right )?answer\s*(?:is|are|=|:)(?:\*\*)?\s*:?|^[ \t]*A[ \t]*:)\s*(\S[^\n]*)",
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE = re.compile(r"(?<!\\)[.!?](?=\s|$|\*)|;(?=\s(?!or\b|and\b)[A-Za-z])")
_ALTERNATIVE = re.compile(r"^\W*(?:or|maybe|perhaps|alternatively|otherwise)\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])[-+]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d))(?:/\d+)?", re.ASCII)
_LIST_SEPARATOR = re.compile(r"(?:[\s,;/&|]|or\b|and\b|maybe\b|perhaps\b)*", re.IGNORECASE)
_OPERAND = re.compile(r"[\d)\]}]\s*(?:[-+*/×÷^]|\\times|\\cdot|\b(?:plus|minus|times|over|divided by))\s*\$?$")
_REASON = re.compile(r",?\s+(?:which|because|since|as|so|where)\b")
_OPERATOR_WINDOW = 40
"""Characters before a number that are searched for an operator."""
_BRACE = re.compile(r"(?<!\\)[{}]")
_BOXED = re.compile(r"\\f?boxed\b\s*")


@dataclass(frozen=True, slots=True)
class FinalAnswer:
    """Final answer of a response, or the reason why there is none. Example: ``FinalAnswer("18", "boxed")``."""

    text: str | None
    """None: no single final answer."""
    origin: str
    """The form in which it was found; without an answer the reason."""


def final_answer(text: str, prompt: str, forms: Sequence[Form] = FORMS) -> FinalAnswer:
    """Final answer of a response, by the first of the forms that occurs in it.

    Args:
        text: the response.
        prompt: its prompt; copies of it in the response are ignored.
        forms: the forms that count.
    """
    answer_text = without_prompt(without_thoughts(text), prompt)
    for form in FORMS:
        if form in forms and (answer := _EXTRACTORS[form](answer_text)):
            return answer
    return FinalAnswer(None, f"none of {', '.join(forms)}")


def boxed(text: str) -> list[str]:
    """Contents of each ``\\boxed{…}``, with inner braces; boxes that are not closed are left out."""
    contents = []
    closing = _closing(text) if _BOXED.search(text) else {}
    for match in _BOXED.finditer(text):
        start = match.end()
        if start in closing:
            contents.append(text[start + 1 : closing[start]])
        elif text[start : start + 1].isalnum():
            contents.append(text[start])
    return contents


def same_answer(one: str, other: str) -> bool:
    """Whether two answers are the same number or the same text."""
    number = literal(plain_mathematics(one))
    if number is not None:
        return number == literal(plain_mathematics(other))
    return spaced(unwrapped(one)) == spaced(unwrapped(other))


def _closing(text: str) -> dict[int, int]:
    """Position of each opening brace -> position of its closing brace, in one pass whatever the nesting."""
    stack: list[int] = []
    closing = {}
    for brace in _BRACE.finditer(text):
        if brace[0] == "{":
            stack.append(brace.start())
        elif stack:
            closing[stack.pop()] = brace.start()
    return closing


def _agreed(candidates: Sequence[str], form: Form) -> FinalAnswer | None:
    contents = [candidate for candidate in candidates if candidate.strip()]
    if not contents:
        return None
    if all(same_answer(content, contents[-1]) for content in contents):
        return FinalAnswer(contents[-1].strip(), form)
    return FinalAnswer(None, f"{len(contents)} different answers ({form})")


def _from_boxes(text: str) -> FinalAnswer | None:
    return _agreed(boxed(text), "boxed")


def _from_hashes(text: str) -> FinalAnswer | None:
    return _agreed(_HASHES.findall(text), "hashes")


def _from_phrase(text: str) -> FinalAnswer | None:
    phrases = _PHRASE.findall(text.rstrip())
    if not phrases:
        return None
    first, *more = _SENTENCE.split(spaced(phrases[-1]), maxsplit=1)
    sentence = _REASON.split(first, maxsplit=1)[0].strip()
    words = set(re.findall(r"[a-z']+", sentence.lower()))
    if words & HEDGES or (more and _ALTERNATIVE.match(more[0])):
        return FinalAnswer(None, "a hedged answer")
    return FinalAnswer(sentence, "phrase") if sentence else None


def _from_numbers(text: str) -> FinalAnswer | None:
    numbers = [match for match in _NUMBER.finditer(text) if any(map(str.isdigit, match[0]))]
    if not numbers:
        return None
    if len(numbers) > 1 and _LIST_SEPARATOR.fullmatch(text[numbers[-2].end() : numbers[-1].start()]):
        return FinalAnswer(None, "a list of numbers")
    if _OPERAND.search(text[: numbers[-1].start()][-_OPERATOR_WINDOW:]):
        return FinalAnswer(None, "a calculation without result")
    return FinalAnswer(numbers[-1][0], "number")


_EXTRACTORS: dict[Form, Callable[[str], FinalAnswer | None]] = {
    "boxed": _from_boxes,
    "hashes": _from_hashes,
    "phrase": _from_phrase,
    "number": _from_numbers,
}
