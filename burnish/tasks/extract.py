"""The final answer in a response: where it stands, and when there is none.

Between `wording` and the verifiers of closed questions. Four forms, the strongest first; the first that occurs counts:

- ``boxed``: ``\\boxed{…}``, the last one; all non-empty ones must be the same answer
- ``hashes``: a line ``#### …``, GSM8K's form; all must be the same
- ``phrase``: "the answer is …", "Answer: …", a line "A: …"; the last one, up to the end of its sentence
- ``number``: the last number, unless it ends a list of numbers or a calculation without result

Thoughts before ``</think>`` and copies of the prompt are not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from burnish.tasks.normalize import HEDGES, plain_mathematics, spaced, without_prompt, without_thoughts
from burnish.tasks.number import literal, unwrapped

Form = Literal["boxed", "hashes", "phrase", "number"]
FORMS: tuple[Form, ...] = ("boxed", "hashes", "phrase", "number")

_HASHES = re.compile(r"^[ \t]*####(.*)$", re.MULTILINE)
_PHRASE = re.compile(
    r"(?:\b(?:final |correct |right )?answer\s*(?:is|are|=|:)(?:\*\*)?\s*:?|^[ \t]*A[ \t]*:)\s*(\S[^\n]*)",
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE = re.compile(r"(?<!\\)[.!?](?=\s|$|\*)|;(?=\s(?!or\b|and\b)[A-Za-z])")
_MORE = re.compile(r"^\W*(?:or|maybe|perhaps|alternatively|otherwise)\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])[-+]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d))(?:/\d+)?", re.ASCII)
_BETWEEN = re.compile(r"(?:[\s,;/&|]|or\b|and\b|maybe\b|perhaps\b)*", re.IGNORECASE)
_OPERAND = re.compile(r"[\d)\]}]\s*(?:[-+*/×÷^]|\\times|\\cdot|\b(?:plus|minus|times|over|divided by))\s*\$?$")
_REASON = re.compile(r",?\s+(?:which|because|since|as|so|where)\b")
_NEAR = 40
"""Characters before a number in which an operator is looked for."""
_BRACE = re.compile(r"(?<!\\)[{}]")
_BOXED = re.compile(r"\\f?boxed\b\s*")


@dataclass(frozen=True, slots=True)
class Final:
    """A final answer, or why there is none. Example: ``Final("18", "boxed")``."""

    text: str | None
    """None: no single final answer."""
    why: str
    """The form, or the reason."""


def final_answer(text: str, prompt: str, forms: Sequence[Form] = FORMS) -> Final:
    """The final answer of a response by the first of the forms that occurs in it.

    Args:
        text: the response.
        prompt: what was asked; copies of it are not looked at.
        forms: those that count.
    """
    said = without_prompt(without_thoughts(text), prompt)
    for form in FORMS:
        if form in forms and (found := _READERS[form](said)):
            return found
    return Final(None, f"none of {', '.join(forms)}")


def boxed(text: str) -> list[str]:
    """What stands in each ``\\boxed{…}``, innermost text with its own braces; open ones are not there."""
    contents = []
    closing = _closing(text) if _BOXED.search(text) else {}
    for match in _BOXED.finditer(text):
        start = match.end()
        if start in closing:
            contents.append(text[start + 1 : closing[start]])
        elif text[start : start + 1].isalnum():
            contents.append(text[start])
    return contents


def same(one: str, other: str) -> bool:
    """Whether two answers are the same number or the same text."""
    number = literal(plain_mathematics(one))
    if number is not None:
        return number == literal(plain_mathematics(other))
    return spaced(unwrapped(one)) == spaced(unwrapped(other))


def _closing(text: str) -> dict[int, int]:
    """Place of each opening brace -> place of the one that closes it. In one pass, however deep they are."""
    opened: list[int] = []
    closing = {}
    for found in _BRACE.finditer(text):
        if found[0] == "{":
            opened.append(found.start())
        elif opened:
            closing[opened.pop()] = found.start()
    return closing


def _agreed(found: Sequence[str], form: Form) -> Final | None:
    contents = [each for each in found if each.strip()]
    if not contents:
        return None
    if all(same(each, contents[-1]) for each in contents):
        return Final(contents[-1].strip(), form)
    return Final(None, f"{len(contents)} different answers ({form})")


def _from_boxes(said: str) -> Final | None:
    return _agreed(boxed(said), "boxed")


def _from_hashes(said: str) -> Final | None:
    return _agreed(_HASHES.findall(said), "hashes")


def _from_phrase(said: str) -> Final | None:
    found = _PHRASE.findall(said.rstrip())
    if not found:
        return None
    first, *more = _SENTENCE.split(spaced(found[-1]), maxsplit=1)
    sentence = _REASON.split(first, maxsplit=1)[0].strip()
    words = set(re.findall(r"[a-z']+", sentence.lower()))
    if words & HEDGES or (more and _MORE.match(more[0])):
        return Final(None, "a hedged answer")
    return Final(sentence, "phrase") if sentence else None


def _from_numbers(said: str) -> Final | None:
    found = [match for match in _NUMBER.finditer(said) if any(map(str.isdigit, match[0]))]
    if not found:
        return None
    if len(found) > 1 and _BETWEEN.fullmatch(said[found[-2].end() : found[-1].start()]):
        return Final(None, "a list of numbers")
    if _OPERAND.search(said[: found[-1].start()][-_NEAR:]):
        return Final(None, "a calculation without result")
    return Final(found[-1][0], "number")


_READERS: dict[Form, Callable[[str], Final | None]] = {
    "boxed": _from_boxes,
    "hashes": _from_hashes,
    "phrase": _from_phrase,
    "number": _from_numbers,
}
