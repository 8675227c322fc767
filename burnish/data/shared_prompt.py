"""Responses to one prompt that are compared or judged: each becomes a sample of its own, and they share a prompt.

Beside `rendering` and `tokenize`, under `maker`. The shared prompt is the longest common *token* prefix of the full
renderings, but never reaches into what is learned: answers that begin alike keep their beginnings, each its own, since
a likelihood and a mean per token count them. (A difference of two sums does not notice.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from burnish.data.records import (
    AnyExample,
    Completion,
    Conversation,
    Example,
    Judged,
    Labelled,
    Message,
    Ranked,
    Said,
    Scored,
    Stepped,
)
from burnish.data.settings import Comparison
from burnish.data.tokenize import Sample
from burnish.errors import DataError

_SIZES = {"pairs": 2, "triples": 3, "verdicts": 2}
"""Responses of a comparison."""


def rated_siblings(example: Ranked | Labelled, comparison: Comparison) -> tuple[tuple[Example, float], ...]:
    """Each response with its prompt, as if it stood alone, and its worth; the best first.

    Raises:
        DataError: the row does not have what is learned.
    """
    if comparison in ("scores", "steps"):
        raise _not(comparison, "responses that are compared, or have a label")
    if isinstance(example, Labelled):
        if comparison not in ("verdicts", "any"):
            raise DataError(
                given="one response with a label",
                rule="a contrast needs two responses to one prompt: chosen and rejected",
                remedy="use a loss that learns from verdicts (loss=kto), or give pairs",
            )
        return ((_alone(example.prompt, example.response, example), float(example.label)),)
    if len(example.responses) != _SIZES.get(comparison, len(example.responses)):
        raise _wrong_size(len(example.responses), comparison)
    order = sorted(range(len(example.scores)), key=lambda index: -example.scores[index])  # stable: ties stay in order
    worth = (1.0, 0.0) if comparison == "verdicts" else [example.scores[index] for index in order]
    alone = [_alone(example.prompt, example.responses[index], example) for index in order]
    return tuple(zip(alone, worth, strict=True))


def single_rated(example: Scored | Stepped, comparison: Comparison) -> Example:
    """A response that is judged by itself, with its prompt.

    Raises:
        DataError: the row does not have what is learned.
    """
    if isinstance(example, Scored) != (comparison == "scores") or comparison not in ("scores", "steps"):
        has = "a response with several scores" if isinstance(example, Scored) else "a response in steps with labels"
        raise _not(comparison, has)
    return _alone(example.prompt, example.response, example)


def _not(comparison: Comparison, has: str) -> DataError:
    wants, remedy = {
        "scores": ("several scores of each response", "give rows with these scores, or leave scores out"),
        "steps": (
            "a label for each step of a response",
            "give rows of prompt, completions (the steps) and labels, or name another loss",
        ),
    }.get(comparison, ("which of two responses is better", "name a loss for such rows: step_cross_entropy"))
    return DataError(given=has, rule=f"the loss learns {wants}", remedy=remedy)


def _wrong_size(size: int, comparison: Comparison) -> DataError:
    rule, remedy = {
        "pairs": (
            "the loss learns from two responses, chosen and rejected",
            "use a loss over rankings (loss=plackett_luce), or rows of two responses",
        ),
        "triples": (
            "the loss learns from three responses: the best is learned, the two others are compared",
            "give rows of three responses with scores, or use a loss over pairs (loss=dpo)",
        ),
        "verdicts": (
            "of more than two responses, nobody knows from which score on one is wanted",
            "write a row for each response, with a label (true or false)",
        ),
    }[comparison]
    return DataError(given=f"{size} responses", rule=rule, remedy=remedy)


def _alone(prompt: Said, response: Said, example: Judged) -> Example:
    if isinstance(prompt, str):
        assert isinstance(response, str), "a response is of the kind of its prompt"
        return Completion(prompt, response)
    assert isinstance(response, tuple), "a response is of the kind of its prompt"
    return Conversation(prompt + response, example.tools)


def share_prompt(samples: Sequence[Sample], worth: Sequence[float]) -> list[Sample]:
    """Samples of one prompt, with its length in common, and their places and worth.

    Raises:
        DataError: no token is common to all, or all are the same.
    """
    first, *others = samples
    prompt = min([sample.prompt_length for sample in samples] + [_common(first, other) for other in others])
    if not prompt:
        raise DataError(
            given="the answers' texts begin with different tokens",
            rule="the responses of a group follow one prompt of at least one token",
            remedy="give the row a prompt, or a template or tokenizer that begins every text with a token",
        )
    if others and all(np.array_equal(first.tokens, other.tokens) for other in others):
        raise DataError(
            given="all answers are the same tokens",
            rule="a comparison has answers that differ",
            remedy="delete the row, or leave such rows out: filters.identical=drop",
        )
    return [
        replace(sample, prompt_length=prompt, place=place, worth=each)
        for place, (sample, each) in enumerate(zip(samples, worth, strict=True))
    ]


def _common(one: Sample, other: Sample) -> int:
    """How many tokens both begin with."""
    size = min(len(one.tokens), len(other.tokens))
    different = np.flatnonzero(one.tokens[:size] != other.tokens[:size])
    return int(different[0]) if len(different) else size


def shortenings(example: AnyExample) -> Iterator[AnyExample]:
    """The example without its prompt's first turn, its first two, and so on; a turn begins with a user's message.

    What stands before the first user's message (the system) stays. Every one of them has something to learn, and the
    responses of a comparison all lose the same.
    """
    if isinstance(example, Conversation):
        for messages in _without_first_turns(example.messages):
            shorter = replace(example, messages=messages)
            if shorter.turns:
                yield shorter
    elif isinstance(example, Judged) and isinstance(example.prompt, tuple):
        yield from (replace(example, prompt=prompt) for prompt in _without_first_turns(example.prompt))


def _without_first_turns(messages: tuple[Message, ...]) -> Iterator[tuple[Message, ...]]:
    users = [i for i, message in enumerate(messages) if message.role == "user"]
    for start in users[1:]:
        yield messages[: users[0]] + messages[start:]
