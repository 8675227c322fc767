"""Extracts the final answer from a response or a reference. Everything that compares answers uses it.

Four forms, the strongest first; the first that occurs and can be read counts:

- ``boxed``: ``\\boxed{…}``, the last one; all non-empty ones must be the same answer
- ``hashes``: a line ``#### …``, GSM8K's form; all must be the same. Headings of words are not answers
- ``phrase``: "the answer is …", "Answer: …", a line "A: …", ``<answer>…</answer>``; the last one, up to the end of its
  sentence. What is denied or taken back ("not 5", "5, no, 6") does not count; what is hedged is no answer
- ``number``: the last number (`last_number`)

Thoughts before ``</think>``, copies of the prompt and struck text are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from burnish.rewards import assertion
from burnish.rewards.last_number import last_number
from burnish.rewards.normalize import plain_mathematics, spaced, without_prompt, without_thoughts
from burnish.rewards.number import unwrapped, value

Form = Literal["boxed", "hashes", "phrase", "number"]
FORMS: tuple[Form, ...] = ("boxed", "hashes", "phrase", "number")
Readable = Callable[[str], bool]

_STRUCK = re.compile(r"~~[^~\n]+~~")
_HASHES = re.compile(r"^[ \t]*####(.*)$", re.MULTILINE)
_NUMBERED = re.compile(r"\s*\**\d+[.)]\s+[A-Za-z]")
_PHRASE = re.compile(
    r"(?:\b(?:final |correct |right )?answer(?:\s+(?:to|for|of)\b[^\n.?!:=]{0,80}?)?\s*"
    r"(?:(?:is|are|was|(?:would|must|should|will) be|equals|=|:)(?![\w'])(?:\*\*)?\s*:?)"
    r"|\banswer\s+(?=(?:is|was|would|could|can|will|does)n't\b|can't\b|cannot\b|(?:might|may|could|will) (?:not )?be\b)"
    r"|^[ \t>#*_|-]*(?:the )?(?:final |correct |right )?answer[*_ \t]*(?:\n|\|)"
    r"|<answer>|^[ \t]*A[ \t]*:)\s*(?=\S)",
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE = re.compile(r"(?<!\\)[.!?](?=\s|$|\*|</)|;(?=\s(?!or\b|and\b)[A-Za-z])|</answer>")
_ALTERNATIVE = re.compile(r"^\W*(?:or|maybe|perhaps|alternatively|otherwise)\b", re.IGNORECASE)
_REASON = re.compile(r",?\s+(?:which|because|since|as|so|where)\b")
_FALSE = re.compile(r"\s*(?:is|was)\s+(?:not|wrong|incorrect|false|impossible)\b|\s*(?:is|was)n't\b")
_FILLER = re.compile(
    r"^(?:(?:therefore|thus|hence|then|simply|just|clearly|obviously|exactly|precisely|indeed|equal to|given by)"
    r"[,:]?\s+)+",
    re.IGNORECASE,
)
_NOT = re.compile(r"^(?:n't|not|never)\s+", re.IGNORECASE)
_MODAL = re.compile(r"^(?:might|may|could) be\b", re.IGNORECASE)
_BRACE = re.compile(r"(?<!\\)[{}]")
_BOXED = re.compile(r"\\(?:f?boxed|fbox)(?![a-zA-Z])\s*")


@dataclass(frozen=True, slots=True)
class FinalAnswer:
    """Final answer of a response, or the reason why there is none. Example: ``FinalAnswer("18", "boxed")``."""

    text: str | None
    """None: no single final answer."""
    origin: str
    """The form in which it was found; without an answer the reason."""


def final_answer(
    text: str, prompt: str = "", forms: Sequence[Form] = FORMS, readable: Readable = lambda _: True
) -> FinalAnswer:
    """Final answer of a response, by the first of the forms that occurs in it and can be read.

    Args:
        text: the response.
        prompt: its prompt; copies of it in the response are ignored.
        forms: the forms that count.
        readable: whether a text can be an answer; ``#### …`` and phrases that cannot leave the answer to the next form.
    """
    rest = _STRUCK.sub(" ", without_prompt(without_thoughts(text), prompt))
    unread = None
    for form in FORMS:
        if form not in forms:
            continue
        answer, rest = _EXTRACTORS[form](rest, readable)
        if answer and (form == "boxed" or answer.text is None or readable(answer.text)):
            return answer
        unread = unread or answer
    return unread or FinalAnswer(None, f"none of {', '.join(forms)}")


def final_number(text: str, prompt: str = "", forms: Sequence[Form] = FORMS) -> Fraction | None:
    """Final answer of a response or reference that is a number; None: it is none, or has an unusual character.

    Example: ``final_number("It is not 6 but 5.") == 5``.
    """
    final = final_answer(text, prompt, forms, is_number).text
    return None if final is None else value(plain_mathematics(final))


def is_number(text: str) -> bool:
    """Whether a text is a number, or a chain of equations that ends in one."""
    return value(plain_mathematics(text)) is not None


def boxed(text: str) -> list[str]:
    """Contents of each ``\\boxed{…}``, with inner braces; boxes that are not closed, and those around another box, are
    left out."""
    return [content for content, _, _ in _boxes(text) if not _BOXED.search(content)]


def without_boxes(text: str) -> str:
    """Text with a space for each box."""
    for _, start, end in reversed(_boxes(text)):
        text = f"{text[:start]} {text[end:]}"
    return text


def same_answer(one: str, other: str) -> bool:
    """Whether two answers are the same number or the same text."""
    number = value(plain_mathematics(one))
    if number is not None:
        return number == value(plain_mathematics(other))
    return spaced(unwrapped(one)) == spaced(unwrapped(other))


def _boxes(text: str) -> list[tuple[str, int, int]]:
    """Content, start and end of each box; of nested ones also the inner."""
    boxes = []
    closing = _closing(text) if _BOXED.search(text) else {}
    for match in _BOXED.finditer(text):
        start = match.end()
        if start in closing:
            boxes.append((text[start + 1 : closing[start]], match.start(), closing[start] + 1))
        elif text[start : start + 1].isalnum():
            boxes.append((text[start], match.start(), start + 1))
    return boxes


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


Extracted = tuple[FinalAnswer | None, str]
"""An answer, None if the form does not occur; and the text that is left to weaker forms."""


def _from_boxes(text: str, readable: Readable) -> Extracted:
    return _agreed(boxed(text), "boxed"), text


def _from_hashes(text: str, readable: Readable) -> Extracted:
    lines = [line for line in _HASHES.findall(text) if readable(line) and not _NUMBERED.match(line)]
    return _agreed(lines, "hashes"), text


def _from_phrase(text: str, readable: Readable) -> Extracted:
    """The last phrase that is not denied. After a denied one, only the text behind it is left to weaker forms."""
    content = text.rstrip()
    marks = list(_PHRASE.finditer(content))
    denials: list[str] = []
    rest, unread, stop = text, None, len(content)
    for mark in reversed(marks):
        line = content[mark.end() : stop].partition("\n")[0]
        border = _SENTENCE.search(line)
        end = mark.end() + (border.start() if border else len(line))
        stance, said = _said(
            content[max(0, mark.start() - 200) : mark.start()], content[mark.end() : end], content[end:stop]
        )
        stop = mark.start()
        if stance == "hedged":
            return FinalAnswer(None, "a hedged answer"), text
        if stance == "retracted":
            break
        if stance == "denied":
            rest = rest if denials else text[end:]
            denials.append(said)
        elif said and not any(same_answer(said, denial) for denial in denials):
            answer = FinalAnswer(said, "phrase")
            if readable(said):
                return answer, text
            unread = unread or answer
            if re.search(r"\d", said):
                break
    return unread, rest


def _said(before: str, sentence: str, following: str) -> tuple[assertion.Stance | Literal["retracted"], str]:
    """Stance and answer of a phrase: the texts before its mark, up to the end of its sentence, and from there."""
    first, reason = [*_REASON.split(_FILLER.sub("", spaced(sentence)), maxsplit=1), ""][:2]
    said = assertion.without_contrast(assertion.corrected(first.strip())).strip()
    plain = _NOT.sub("", said)
    taken_back = assertion.retraction(following.lstrip(".!?; \n"))
    if taken_back is not None and assertion.stance(f"it is {taken_back}") == "denied":
        return "denied", plain
    if taken_back is not None and re.search(r"\d|[$\\]", taken_back):
        return "retracted", plain
    outside = assertion.stance_beside(before, "")
    if outside == "denied" or _FALSE.match(reason):
        return "denied", plain
    if outside == "hedged" or _MODAL.match(said) or _ALTERNATIVE.match(following) or following[:1] == "?":
        return "hedged", said
    return assertion.stance(said), plain


def _from_numbers(text: str, readable: Readable) -> Extracted:
    number, origin = last_number(text)
    return (FinalAnswer(number or None, origin) if origin else None), ""


_EXTRACTORS: dict[Form, Callable[[str, Readable], Extracted]] = {
    "boxed": _from_boxes,
    "hashes": _from_hashes,
    "phrase": _from_phrase,
    "number": _from_numbers,
}
