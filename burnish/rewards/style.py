"""Rewards for the style of a response: tags, length, repetition. Usually parts of a weighted sum."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from burnish.rewards.normalize import visible
from burnish.rewards.response_view import ResponseView
from burnish.rewards.reward import Reward
from burnish.rewards.verdict import UnusableRow

Unit = Literal["tokens", "words", "characters"]


class FormatReward(Reward):
    """1 if the tags are well formed: each opened and closed exactly once, in order, none empty, else 0.

    Nothing may follow a last tag ``answer``; after any other last tag the answer follows, without tags.
    Only white space may stand between tags and before the first.

    Example: ``tags: [think]`` requires ``<think>…</think> …``, ``tags: [think, answer]`` requires
    ``<think>…</think><answer>…</answer>``.
    """

    name: Literal["format"] = "format"
    tags: tuple[str, ...] = ("think",)
    """Names of the tags in their order."""

    @field_validator("tags", mode="before")
    @classmethod
    def _listed(cls, given: object) -> object:
        tags = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list) else given
        if isinstance(tags, tuple) and not (tags and all(re.fullmatch(r"[A-Za-z_]\w*", str(tag)) for tag in tags)):
            raise ValueError("is the name of a tag, or a list of names, without < and >")
        if isinstance(tags, tuple) and len(set(tags)) < len(tags):
            raise ValueError("has each tag once")
        return tags

    def score(self, answer: ResponseView) -> bool:
        text = answer.text
        counts = (text.count(mark) for tag in self.tags for mark in (f"<{tag}>", f"</{tag}>"))
        if any(count != 1 for count in counts):
            return False
        inside = "".join(rf"\s*<{tag}>(?P<{tag}>.*?)</{tag}>" for tag in self.tags)
        match = re.fullmatch(inside + r"(.*)", text, re.DOTALL)
        if match is None or not all(_has_text(match[tag]) for tag in self.tags):
            return False
        return _has_text(match[len(self.tags) + 1]) != (self.tags[-1] == "answer")


class OverlongReward(Reward):
    """Soft overlong punishment: 0 for short responses, falling to -1 over a buffer before the limit.

    With length n, limit L and buffer C: 0 if n <= L - C; (L - C - n) / C up to n = L; -1 beyond
    (DAPO, arXiv 2503.14476, equation 13).
    """

    name: Literal["overlong"] = "overlong"
    max_length: Annotated[int, Field(gt=0)]
    """L, the limit."""
    buffer: Annotated[int, Field(gt=0)]
    """C, the length over which the penalty grows."""
    unit: Unit = "tokens"

    @model_validator(mode="after")
    def _buffer_fits(self) -> OverlongReward:
        if self.buffer > self.max_length:
            raise ValueError(f"buffer ({self.buffer}) is at most the limit, max_length ({self.max_length})")
        return self

    @property
    def grades_correctness(self) -> bool:
        return False

    def score(self, answer: ResponseView) -> float:
        over = length(answer, self.unit) - (self.max_length - self.buffer)
        return -min(1.0, max(0, over) / self.buffer)


class LengthReward(Reward):
    """1 at the target length, falling linearly to 0 at a distance of `tolerance`."""

    name: Literal["length"] = "length"
    target: Annotated[int, Field(gt=0)]
    tolerance: Annotated[int, Field(gt=0)]
    """Distance from the target at which the reward is 0."""
    unit: Unit = "tokens"

    @property
    def grades_correctness(self) -> bool:
        return False

    def score(self, answer: ResponseView) -> float:
        return max(0.0, 1 - abs(length(answer, self.unit) - self.target) / self.tolerance)


class RepetitionReward(Reward):
    """Minus the share of n-grams of words that occurred before in the response: 0 without repetition, towards -1.

    0 for a response of fewer than n words. Case, punctuation and marks without width are ignored.
    """

    name: Literal["repetition"] = "repetition"
    n: Annotated[int, Field(gt=0)] = 4
    """Words of an n-gram."""

    @property
    def grades_correctness(self) -> bool:
        return False

    def score(self, answer: ResponseView) -> float:
        words = re.findall(r"\w+", visible(answer.text).lower())
        grams = [tuple(words[start : start + self.n]) for start in range(len(words) - self.n + 1)]
        return len(set(grams)) / len(grams) - 1 if grams else 0.0


def length(answer: ResponseView, unit: Unit) -> int:
    """Length of what the model wrote, without the generation prefix, as for token limits.

    Raises:
        UnusableRow: the unit is tokens and the tokens are not known.
    """
    if unit == "tokens":
        if answer.token_ids is None:
            raise UnusableRow("the tokens of the response are not known; set unit: words or characters")
        return len(answer.token_ids)
    return len(answer.written.split()) if unit == "words" else len(answer.written)


def _has_text(text: str) -> bool:
    """Whether a text has a visible character."""
    return bool(visible(text).strip())
