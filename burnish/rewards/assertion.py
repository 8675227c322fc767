"""Determines what a response says of an answer: asserted, denied, hedged, or corrected. Pure functions on text.

A mark such as "the answer is" counts only with what stands beside it: "I do not think the answer is 5" denies 5, "the
answer might be 5" hedges, "the answer is 6, no, 5" says 5. Used by `extract` and `choice`.
"""

from __future__ import annotations

import re
from typing import Literal

from burnish.rewards.normalize import HEDGES

DENIALS = frozenset(["not", "isn't", "isnt", "wrong", "incorrect", "false", "neither", "never", "cannot", "can't"])
"""Words that deny the answer in whose sentence they stand."""

Stance = Literal["asserted", "denied", "hedged"]

_WINDOW = 200
"""Characters before an answer that are looked at."""
_LONG = 500
"""Characters from which a sentence is not searched for corrections, which takes time by their square."""
_CONJUNCTION = re.compile(r"\b(?:so|therefore|thus|hence|but|then|because|since|and)\b", re.IGNORECASE)
_SENTENCE_BORDER = re.compile(r"[.!?](?=\s|$|[*\"'])|\n")
_DENIED_BEFORE = re.compile(
    r"(?:\b(?:not|never|cannot|neither|nor)|n't)\b(?!\s+(?:hard|difficult|only|just|surprising))(?:\s+[\w']+){0,4}\s*$"
    r"|\b(?:wrong|incorrect|false|untrue|impossible|doubt(?:ful|s|ed)?)"
    r"(?:\s+(?:that|to|say|think|claim|believe|whether|if|it|is|was))*(?:\s+(?:the|an?))?\s*$"
    r"|\b(?:rul(?:e[sd]?|ing)\s+out|eliminat\w+|exclud\w+|reject\w*|discard\w*|dismiss\w*|except"
    r"|instead of|rather than)(?:\s+(?:the|an?))?\s*$",
    re.IGNORECASE,
)
_FALSE = (
    r"(?:\w+ly\s+|also\s+|just\s+)?"
    r"(?:not|wrong|incorrect|false|impossible|invalid|ruled|eliminated|excluded|out|too|never|no|nonsense|absurd)\b"
)
_DENIED_AFTER = re.compile(
    r"[)\]}*_\"'`$\s]*(?:,?\s*which\s+)?(?:"
    rf"(?:is|was|are|were|would be|seems?|looks?)\s+{_FALSE}"
    r"|(?:is|was|are|were|do|does|did|could|would|wo)n't\b|can't\b|cannot\b"
    r"|can be (?:ruled|excluded|eliminated|rejected|discarded|dismissed)|(?:do|does|did|can|could|will|would)\s+not\b"
    r"|makes? no\b|fails?\b|\((?:wrong|incorrect|false)\))",
    re.IGNORECASE,
)
_HEDGED_BEFORE = re.compile(
    r"\b(?:maybe|perhaps|possibly|probably|presumably|if|whether|unless|suppose|supposing|assume|assuming|either)\b"
    r"|(?:\bnot|n't)\s+(?:\w+\s+)?sure\b|\bunsure\b|\b(?:might|could|may)\s+be\s*$",
    re.IGNORECASE,
)
_HEDGED_BESIDE = re.compile(
    r"(?:\b(?:or|at least|at most|(?:less|more|fewer|greater|higher|lower) than|up to|about|around|nearly|almost"
    r"|roughly|approximately|approx\.?)|[≤≥≈≠±~]|(?<!^)(?<!\n)(?<![=\-<])[<>]"
    r"|\\(?:leq?|geq?|lt|gt|approx|neq?|pm|mp|sim)(?![a-z]))\s*\\?\$?$",
    re.IGNORECASE,
)
_CORRECTION = re.compile(
    r"\s*(?:[,;.…—–-]+\s*(?:(?:no|wait|oops|sorry|actually|correction|scratch that)\b"
    r"(?!\s+(?:doubt|matter|need|problem))[,.:!\s—–-]*)+|[,;.…—–-]*\s*\b(?:i meant?|make that|or rather)\b[,:\s]*)",
    re.IGNORECASE,
)
_LEAD = re.compile(r"^(?:(?:it(?:'s| is)|that(?:'s| is)|the \w+ is|so)\s+)+", re.IGNORECASE)
_RETRACTION = re.compile(
    r"^\s*(?:no|wait|oops|sorry|actually|hmm|correction)\b(?!\s+(?:doubt|matter|need|problem))(.*)",
    re.IGNORECASE | re.DOTALL,
)
_NOT_BUT = re.compile(r"^(?:not|n't)\s+\S+?,?\s+but(?:\s+rather)?\s+", re.IGNORECASE)
_NOT_OTHER = re.compile(r",?\s+(?:and\s+)?(?:not|rather than|instead of)\s+\S+\s*$", re.IGNORECASE)

_A_NUMBER = r"[-+]?\\?\$?\d[\d.,/]{0,30}(?<=\d)"
_NOT_NUMBERS = re.compile(
    rf"\b(?:not|n't)\s{_A_NUMBER},?\sbut(?:\srather)?\s"
    rf"|(?:,\s{{0,3}}|(?<!\s)\s)(?:and\s)?(?:not|rather than|instead of)\s{_A_NUMBER}(?=[\s.,;!?]|$)",
    re.IGNORECASE,
)


def stance_beside(before: str, after: str) -> Stance:
    """What is said of an answer between two texts: "it is not 5" and "5 is wrong" deny 5; a guess, a condition, a bound
    and a question hedge it."""
    clause = clause_before(before)
    if _DENIED_BEFORE.search(clause) or denied_after(after):
        return "denied"
    if _HEDGED_BEFORE.search(clause) or _HEDGED_BESIDE.search(before[-40:]):
        return "hedged"
    border = _SENTENCE_BORDER.search(after)
    return "hedged" if border is not None and border[0] == "?" else "asserted"


def denied_after(after: str) -> bool:
    """Whether a text begins by denying what stands before it, such as " is wrong"."""
    return _DENIED_AFTER.match(after) is not None


def clause_before(text: str) -> str:
    """End of a text, from its last punctuation mark or conjunction."""
    window = text[-_WINDOW:]
    sentence = window[max(map(window.rfind, ",;:.!?()\n")) + 1 :]
    return _CONJUNCTION.split(sentence)[-1]


def corrected(sentence: str) -> str:
    """What a sentence says in the end. Example: ``corrected("6, no, it is 5") == "5"``."""
    if len(sentence) > _LONG:
        return sentence
    *before, last = _CORRECTION.split(sentence)
    return _LEAD.sub("", last) if before and before[0].strip() and re.search(r"\w", last) else sentence


def without_contrast(sentence: str) -> str:
    """Sentence without the answer that it excludes: "not 6 but 5", "5, not 6", "5 rather than 6" are all 5."""
    return sentence if len(sentence) > _LONG else _NOT_OTHER.sub("", _NOT_BUT.sub("", sentence))


def without_contrasts(text: str) -> str:
    """Text without the numbers that it excludes so, in any sentence."""
    return _NOT_NUMBERS.sub(" ", text)


def retraction(following: str) -> str | None:
    """The rest of a text that begins by taking back what was said before ("No, …"); None: it does not."""
    match = _RETRACTION.match(following)
    return match[1] if match else None


def stance(sentence: str) -> Stance:
    """ "denied" or "hedged" by a word of the sentence, such as "not" or "or"; otherwise "asserted".

    A single word, as in "the answer is no", is an answer.
    """
    words = re.findall(r"[a-z']+", sentence.lower())
    if len(words) == 1 and len(sentence.split()) == 1:
        return "asserted"
    if DENIALS & set(words) or any(word.endswith("n't") for word in words):
        return "denied"
    return "hedged" if HEDGES & set(words) else "asserted"
