"""Shared prompt of compared responses, and of the turns of a conversation: samples with one prompt length.

Used by `sample_builder`, with `rendering` and `tokenize`. The shared prompt is the longest common *token* prefix of the
full renderings, but never contains learned tokens: responses that begin alike keep their own first tokens, since a
likelihood and a mean per token count them. (A difference of two sums does not change.) What neighbors share beyond the
prompt is noted, for the prefix tree of the group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from burnish import prefix_tree
from burnish.data.records import (
    Completion,
    Conversation,
    Example,
    Labelled,
    Ranked,
    RatedExample,
    Scored,
    Stepped,
    TextOrMessages,
)
from burnish.data.settings import Comparison
from burnish.data.tokenize import Sample
from burnish.errors import DataError

_NUM_RESPONSES = {"pairs": 2, "triples": 3, "verdicts": 2}
"""Number of responses of a comparison."""


def rated_siblings(example: Ranked | Labelled, comparison: Comparison) -> tuple[tuple[Example, float], ...]:
    """Returns each response with its prompt as an example of its own, and its reward; the best first.

    Raises:
        DataError: the row does not fit the comparison that the loss needs.
    """
    if comparison in ("scores", "steps"):
        raise _wrong_kind(comparison, "responses that are compared, or have a label")
    if isinstance(example, Labelled):
        if comparison not in ("verdicts", "any"):
            raise DataError(
                given="one response with a label",
                rule="the loss needs two responses to one prompt: chosen and rejected",
                remedy="use a loss for single labelled responses (loss=kto), or give pairs",
            )
        return ((_as_example(example.prompt, example.response, example), float(example.label)),)
    if len(example.responses) != _NUM_RESPONSES.get(comparison, len(example.responses)):
        raise _wrong_size(len(example.responses), comparison)
    order = sorted(range(len(example.scores)), key=lambda index: -example.scores[index])  # stable: ties stay in order
    rewards = (1.0, 0.0) if comparison == "verdicts" else [example.scores[index] for index in order]
    responses = [_as_example(example.prompt, example.responses[index], example) for index in order]
    return tuple(zip(responses, rewards, strict=True))


def single_rated(example: Scored | Stepped, comparison: Comparison) -> Example:
    """Returns a response with scores or step labels, with its prompt, as an example.

    Raises:
        DataError: the row does not fit the comparison that the loss needs.
    """
    if isinstance(example, Scored) != (comparison == "scores") or comparison not in ("scores", "steps"):
        has = "a response with several scores" if isinstance(example, Scored) else "a response in steps with labels"
        raise _wrong_kind(comparison, has)
    return _as_example(example.prompt, example.response, example)


def _wrong_kind(comparison: Comparison, has: str) -> DataError:
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
            "for more than two responses there is no threshold of the score for desirable ones",
            "write a row for each response, with a label (true or false)",
        ),
    }[comparison]
    return DataError(given=f"{size} responses", rule=rule, remedy=remedy)


def _as_example(prompt: TextOrMessages, response: TextOrMessages, example: RatedExample) -> Example:
    if isinstance(prompt, str):
        assert isinstance(response, str), "a response is of the kind of its prompt"
        return Completion(prompt, response)
    assert isinstance(response, tuple), "a response is of the kind of its prompt"
    return Conversation(prompt + response, example.tools)


def share_prompt(responses: Sequence[Sequence[Sample]], rewards: Sequence[float]) -> list[Sample]:
    """Sets the shared prompt length, the indices and the reward of the samples of one prompt.

    Args:
        responses: the texts of each response: one, or one for each turn if the template rewrites earlier ones.
        rewards: one for each response.

    Raises:
        DataError: the samples have no common first token, or all responses are equal.
    """
    samples = [sample for texts in responses for sample in texts]
    prompt = _shared_prompt(samples)
    if not prompt:
        raise DataError(
            given="the answers' texts begin with different tokens",
            rule="the responses of a group follow one prompt of at least one token",
            remedy="give the row a prompt, or a template or tokenizer that begins every text with a token",
        )
    if any(medium.span[1] > prompt for sample in samples for medium in sample.media):
        raise DataError(
            given="an image after the answers begin to differ",
            rule="compared answers have one prompt, and all images are in it",
            remedy="compare answers to the last image alone, or leave the row out",
        )
    texts_of = [[text.tokens.tobytes() for text in texts] for texts in responses]
    if len(responses) > 1 and all(texts == texts_of[0] for texts in texts_of):
        raise DataError(
            given="all answers are the same tokens",
            rule="a comparison has answers that differ",
            remedy="delete the row, or leave such rows out: filters.identical=drop",
        )
    shared = [0, *(common_prefix(*pair) for pair in pairwise(samples))]
    places = [(index, text) for index, texts in enumerate(responses) for text in range(len(texts))]
    return [
        replace(
            sample,
            prompt_length=sample.prompt_length if text else prompt,
            response_index=index,
            text_index=text,
            shared=max(prompt, common) if number else 0,
            reward=rewards[index],
        )
        for number, (sample, (index, text), common) in enumerate(zip(samples, places, shared, strict=True))
    ]


def share_conversation(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Makes one group of the samples of a conversation whose earlier turns the template rewrites.

    They are not compared: each is learned for itself, so their order and their number do not matter to the loss.
    """
    if len(samples) < 2 or any(sample.reward is not None for sample in samples):
        return samples
    prompt = _shared_prompt(samples)
    if not prompt or any(medium.span[1] > prompt for sample in samples for medium in sample.media):
        return samples
    shared = [0, *(common_prefix(*pair) for pair in pairwise(samples))]
    return [
        replace(sample, response_index=index, shared=common)
        for index, (sample, common) in enumerate(zip(samples, shared, strict=True))
    ]


def _shared_prompt(samples: Sequence[Sample]) -> int:
    """Tokens with which all samples begin, before the first learned one of any."""
    first, *others = samples
    return min([sample.prompt_length for sample in samples] + [common_prefix(first, other) for other in others])


def common_prefix(one: Sample, other: Sample) -> int:
    """Length of the common prefix, in tokens."""
    return prefix_tree.common_prefix(one.tokens, other.tokens)
