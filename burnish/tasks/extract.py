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

from burnish.tasks.number import literal, unwrapped
from burnish.tasks.wording import HEDGES, after_thoughts, plain_mathematics, spaced, without_prompt

Form = Literal["boxed", "hashes", "phrase", "number"]
FORMS: tuple[Form, ...] = ("boxed", "hashes", "phrase", "number")

_HASHES = re.compile(r"^[ \t]*####[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)
_PHRASE = re.compile(
    r"(?:\b(?:final |correct |right )?answer\s*(?:is|are|=|:)(?:\*\*)?\s*:?|^[ \t]*A[ \t]*:)[ \t]*\n?[ \t]*(\S[^\n]*)",
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE = re.compile(r"(?<!\\)[.!?](?=\s|$|\*)|;(?=\s)")
_NUMBER = re.compile(r"(?<![\w.])[-+]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d))(?:/\d+)?", re.ASCII)
_BETWEEN = re.compile(r"^[\s,;/&|]*(?:(?:or|and|maybe|perhaps|,|/)[\s,;/]*)*$", re.IGNORECASE)
_OPERAND = re.compile(r"[\d)\]}]\s*(?:[-+*/×÷^]|\\times|\\cdot|\b(?:plus|minus|times|over|divided by))\s*\$?$")
_REASON = re.compile(r",?\s+(?:which|because|since|as|so|where)\b")
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
    said = without_prompt(after_thoughts(text), prompt)
    for form in FORMS:
        if form in forms and (found := _READERS[form](said)):
            return found
    return Final(None, f"none of {', '.join(forms)}")


def boxed(text: str) -> list[str]:
    """What stands in each ``\\boxed{…}``, innermost text with its own braces; open ones are not there."""
    contents = []
    for match in _BOXED.finditer(text):
        rest = text[match.end() :]
        if rest.startswith("{"):
            end = _closing(rest)
            contents += [rest[1:end]] if end else []
        elif rest[:1].isalnum():
            contents.append(rest[0])
    return contents


def same(one: str, other: str) -> bool:
    """Whether two answers are the same number or the same text."""
    number = literal(plain_mathematics(one))
    if number is not None:
        return number == literal(plain_mathematics(other))
    return spaced(unwrapped(one)) == spaced(unwrapped(other))


def _closing(text: str) -> int:
    """The place of the brace that closes the first one; 0: there is none."""
    depth = 0
    for place, char in enumerate(text):
        if char in "{}" and (place == 0 or text[place - 1] != "\\"):
            depth += 1 if char == "{" else -1
            if depth == 0:
                return place
    return 0


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
    found = _PHRASE.findall(said)
    if not found:
        return None
    sentence = _REASON.split(_SENTENCE.split(found[-1], maxsplit=1)[0], maxsplit=1)[0].strip()
    words = set(re.findall(r"[a-z']+", sentence.lower()))
    if words & HEDGES:
        return Final(None, "a hedged answer")
    return Final(sentence, "phrase") if sentence else None


def _from_numbers(said: str) -> Final | None:
    found = [match for match in _NUMBER.finditer(said) if any(map(str.isdigit, match[0]))]
    if not found:
        return None
    if len(found) > 1 and _BETWEEN.match(said[found[-2].end() : found[-1].start()]):
        return Final(None, "a list of numbers")
    if _OPERAND.search(said[: found[-1].start()]):
        return Final(None, "a calculation without result")
    return Final(found[-1][0], "number")


_READERS: dict[Form, Callable[[str], Final | None]] = {
    "boxed": _from_boxes,
    "hashes": _from_hashes,
    "phrase": _from_phrase,
    "number": _from_numbers,
}
